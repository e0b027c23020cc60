"""Fine-tuning: splits, noise as OCR makes it, the frozen base, fast adapters, the Trainer, the run on disk."""
