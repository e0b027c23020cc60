"""What the other rooms stand on: settings, raw folders and their shards, checks of a text, progress on stderr."""
