"""What a product is called in text: folders' names are no words that a language model knows."""

import re

#: of data sets whose products have no name, and of names that are no English
DATASETS = {
    "BTAD": "industrial product",
    "DAGM 2007": "textured surface",
    "KolektorSDD": "electrical commutator",
    "KolektorSDD2": "metal surface",
}
PRODUCTS = {"chewinggum": "chewing gum", "pcb": "printed circuit board"}


def noun(category: str, dataset: str | None = None) -> str:
    """The noun for text prompts.

    >>> noun("metal_nut_m8"), noun("pcb4", "VisA"), noun("Blotchy_099", "DTD-Synthetic"), noun("01", "BTAD")
    ('metal nut m8', 'printed circuit board', 'blotchy texture', 'industrial product')
    """
    if dataset in DATASETS:
        return DATASETS[dataset]
    # a number behind a word counts variants; "m8" is a word
    words = re.sub(r"(?<=[a-z]{3})\d+$|_\d+$", "", category.lower().replace("-", "_")).replace("_", " ").strip()
    words = PRODUCTS.get(words, words or category)
    return f"{words} texture" if dataset == "DTD-Synthetic" else words
