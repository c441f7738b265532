"""The SMS channel: Exotel's API, with the ids that India's DLT registration asks for."""
