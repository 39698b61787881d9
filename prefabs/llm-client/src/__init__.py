"""Chat with a language model."""
