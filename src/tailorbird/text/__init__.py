"""Text: normalisation, chat templates and prompts, search, overlap, labels as text."""
