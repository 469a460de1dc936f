"""From an offer to images in our PACS and a receipt back."""
