"""One page about one run: its rows, their measures, charts, words and pictures, and the templates that hold them."""
