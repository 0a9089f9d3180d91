"""What is trained: a backbone with a head, its adapters, its frozen parts; and tuned models on disk."""
