"""Ways of saying things: one template of several, then the small liberties that people take when they type."""

OPENERS = [
    "Please ",
    "Hey, ",
    "Hi! ",
    "OK, ",
    "Now ",
    "Could you help? ",
    "Next: ",
    "Hello. ",
    "One more: ",
    "Quick question: ",
]
CLOSERS = [
    " Thanks.",
    " Thank you!",
    " Thanks!",
    " Be quick.",
    " I need it now.",
    " Answer briefly.",
    " Only the answer.",
    " Go!",
]
CLOSERS += [
    " Answer with the result only.",
    " Just the answer please.",
    " Take your time.",
    " No explanations.",
    " Show your work.",
]


def phrase(rng, templates, **slots):
    """templates are str.format's. Their first letter may change case, their last mark may go; slots stay as they are."""
    template = rng.choice(templates)
    free = template[0].isalpha()
    if template[-1] in ".?" and rng.random() < 0.2:
        template = template[:-1] + rng.choice(["", "", "", "!", ".", "?"])
    elif template[-1] not in ".?!:=\n}" and rng.random() < 0.2:
        template += rng.choice(".?!")
    opener = rng.choice(OPENERS) if rng.random() < 0.1 else ""
    if free and (opener[-2:] in (", ", "e ", "w ") or rng.random() < 0.15):
        template = template[0].lower() + template[1:]
    closer = rng.choice(CLOSERS) if template[-1] in ".?!" and rng.random() < 0.04 else ""
    return opener + template.format(**slots) + closer


def listing(rng, values):
    """Values in one of the ways in which people write lists."""
    values = [str(v) for v in values]
    kind = rng.random()
    if kind < 0.6:
        return ", ".join(values)
    if kind < 0.75:
        return " ".join(values)
    if kind < 0.83:
        return ",".join(values)
    if kind < 0.9:
        return "[" + ", ".join(values) + "]"
    return ", ".join(values[:-1]) + " and " + values[-1]
