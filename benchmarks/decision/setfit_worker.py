"""SetFit on rows that stand on stdin, in an interpreter that has ``setfit``: its answers and the seconds that it took, on stdout.

The encoder is put together as its card says (mean of the tokens, then length 1); all else is as ``setfit`` has it unless stdin names
another number of pairs a text. Texts are rows of a data set: they go nowhere but to the model.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    asked, out = json.load(sys.stdin), sys.stdout
    sys.stdout = sys.stderr
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, models
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    torch.set_num_threads(asked["threads"])
    read = models.Transformer(asked["encoder"], max_seq_length=256)
    body = SentenceTransformer(modules=[read, models.Pooling(read.get_word_embedding_dimension(), "mean"), models.Normalize()])
    started = time.perf_counter()
    model = SetFitModel(model_body=body, model_head=LogisticRegression(), normalize_embeddings=True)
    settings = TrainingArguments(
        output_dir=str(Path(asked["folder"])),
        seed=asked["seed"],
        num_iterations=asked["iterations"],
        save_strategy="no",
        report_to="none",
        show_progress_bar=False,
    )
    rows = Dataset.from_dict({"text": asked["texts"], "label": asked["labels"]})
    Trainer(model=model, args=settings, train_dataset=rows).train()
    trained = time.perf_counter()
    answers = [int(each) for each in model.predict(asked["asked"], show_progress_bar=False)]
    json.dump({"answers": answers, "seconds": trained - started}, out)


if __name__ == "__main__":
    main()
