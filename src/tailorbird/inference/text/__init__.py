"""Text and tokens: chat formats, label tries, decoding, tokenizer checks.

In: messages, labels, tokens, logits. Out: token ids, text, sampled tokens. Must not know: weights, who asks.
"""
