"""Drawing memes: the picture, the text on it, and the card of the sample memes."""
