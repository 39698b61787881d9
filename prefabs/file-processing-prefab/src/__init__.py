"""Turn documents into Markdown."""
