"""Is a sentence good or bad? It is read character by character: the opening example of many a course.

python examples/sentiment.py

All of 260 new sentences are right, after 11 seconds on two CPU cores: they are put together of the parts that trained.
"""

import csv
import itertools
import tempfile
from pathlib import Path

import numpy as np

import jaxrnn

OPENINGS = ("The film was", "I found the play", "This book is", "The second half felt", "Their new record is")
DEGREES = ("", "really ", "rather ", "truly ", "so ")
WORDS = {
    "good": ("wonderful", "moving", "clever", "a joy", "charming", "well made"),
    "bad": ("dreadful", "boring", "clumsy", "a waste of time", "tiresome", "badly made"),
}
ENDINGS = (".", "!", ", from start to end.", ", and my friends agree.")


def main(epochs: int = 15) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "sentences.csv"
        write_sentences(path)
        sentences = jaxrnn.read(path, text_column="sentence", tokens="character", label_column="meant")
    print(sentences)

    order = np.random.default_rng(0).permutation(len(sentences))
    training, test = sentences.take(order[: len(order) * 3 // 4]), sentences.take(order[len(order) * 3 // 4 :])
    model = jaxrnn.fit(
        training, task="classify", text_column="sentence", hidden_size=32, learning_rate=0.01, epochs=epochs
    )
    print(f"accuracy: {model.evaluate(test)['accuracy']:.3f} of {len(test)} sentences that did not train")

    new = ["The film was so charming!", "This book is not clever, it is tiresome."]
    for sentence, probabilities in zip(new, model.predict_proba(new), strict=True):
        print(f"{sentence} good with probability {probabilities[model.classes.index('good')]:.2f}")


def write_sentences(path: Path) -> None:
    """Writes the file: sentences put together of their parts, and how each is meant."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "meant"])
        for meant, words in WORDS.items():
            for opening, degree, word, ending in itertools.product(OPENINGS, DEGREES, words, ENDINGS):
                if not (degree and word.startswith("a ")):
                    writer.writerow([f"{opening} {degree}{word}{ending}", meant])


if __name__ == "__main__":
    main()
