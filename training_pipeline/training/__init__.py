"""Fine-tuning: the data set's splits, noise as OCR makes it, the Trainer on packed rows, the run on disk."""
