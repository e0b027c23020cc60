"""Raw folders on disk: what a provider replied, what it was asked for, which machine's share it is."""
