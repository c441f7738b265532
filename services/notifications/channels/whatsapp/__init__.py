"""The WhatsApp channel: Meta's Cloud API. Off unless the settings switch it on."""
