"""The suppression list: addresses to which nothing goes, whoever they belong to."""
