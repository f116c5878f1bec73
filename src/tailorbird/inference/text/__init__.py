"""Text to tokens and back: chat templates, labels as trees, streams, what may come next.

In: messages, labels, tokens, logits. Out: token ids, text, draws. Must not know: weights, who asks.
"""
