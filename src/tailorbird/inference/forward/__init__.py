"""Forward pass in torch: weights and adapters, the batch of a step, hidden states and logits.

In: verified folders, batches of tokens. Out: hidden states, logits. Must not know: text, requests, tenants.
"""
