"""One picture's way to a probability: decode, read its text, caption it, ask the chat model."""
