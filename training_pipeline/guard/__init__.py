"""The guard model: its prompt, its folder, packed rows, and the scores that it gives."""
