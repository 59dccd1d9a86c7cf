"""What a model is and how it is talked to: its configuration and its tokenizer."""
