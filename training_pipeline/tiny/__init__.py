"""The small stand-in models that make_tiny_models.py trains: a chat LLM and a captioner."""
