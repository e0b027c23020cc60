"""Many pictures by Ray: where they lie, what is read from there, actors over the detector."""
