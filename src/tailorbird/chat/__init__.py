"""Chat: templates, tokenizer, frames of turns and tool calls, and conversations as text."""
