"""Other programs' vocabularies, a file a form: each becomes a tokenizer of the tokenizers library, and its settings."""
