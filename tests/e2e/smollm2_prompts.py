"""Prompts that SmolLM2 is asked, by the tests and by scripts/make_fixtures/smollm2.py."""

PROMPTS = [
    "The capital of France is", "Once upon a time", "def fibonacci(n):\n", "1, 2, 3, 4, 5,", "Water boils at", "\u00c9t\u00e9 comme hiver,",
    "The quick brown fox jumps over the", "In 1969, humans first", "SELECT name FROM", "Dear Sir or Madam,", "To be, or not to be,",
    "H2O is the chemical formula of", "\u4eca\u65e5\u306f", "Roses are red,\nviolets are", "The opposite of hot is", "import numpy as", "E = mc",
    "Monday, Tuesday, Wednesday,", "A dog has four", "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n",
]
