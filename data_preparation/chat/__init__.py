"""Asking a chat model, Google or the phrasebook for memes and translations, and reading what they reply."""
