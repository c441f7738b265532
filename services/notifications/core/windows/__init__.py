"""The 24 hours after somebody has written on WhatsApp, in which any text may go to them."""
