"""What train_model.py does with rows, adapters and attention to train fast and resumably."""
