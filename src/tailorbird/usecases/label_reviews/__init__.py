"""Label reviews: blinded judgements by people and LLM judges."""
