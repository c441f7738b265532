"""The page of a group's admins: HTML without a script, in Hindi and English, behind a signed link."""
