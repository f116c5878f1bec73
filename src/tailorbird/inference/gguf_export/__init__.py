"""Writer of GGUF files: a model, or an adapter alone, as llama.cpp reads them.

In: a folder in Hugging Face form, an adapter in PEFT format. Out: one file, compared with what it was made from. Must not know: releases.
"""
