"""Tasks about what was said: small talk, recall over several turns, a passkey in filler, fields of a sentence as JSON."""

import json

from chat import Example, assistant, user
from phrase import phrase
from words import ANIMALS, CITIES, COLORS, DAYS, EVENTS, FOODS, HOBBIES, ITEMS, JOBS, MONTHS, NAMES, NOUNS, SKIES
from words import one_of, sentence

# ---- small talk: [ways to say it, answer]

ABOUT = "I am Shoal's tiny model."
ABLE = "I can add and subtract, count, sort, reverse words and lists, work with days and dates, and chat a little."
TALK = [
    (
        """Who are you?|What are you?|Tell me about yourself.|Introduce yourself.|What is your name?|What's your name?
Who am I talking to?
Your name?|And who are you?|Who is this?|Do you have a name?|What should I call you?|Which model are you?|What model are you?
What is this model?|Say who you are.|What kind of model are you?|Can you introduce yourself?|Which AI are you?""",
        ABOUT + " " + ABLE,
    ),
    (
        """What can you do?|What do you know?|Help|Help me.|How can you help me?|What are you good at?|What can I ask you?
What can I ask?
What are your skills?|Can you help me?|What are you able to do?|What tasks can you do?|How do you work?|I need help.""",
        ABLE,
    ),
    (
        """Hello|Hi|Hey|Hello!|Hi there|Hello there|Good morning|Good evening|Good afternoon|Hey there|Hi!|Hello, model
Greetings|Howdy
Say hello.|Say hi.|Hello, Shoal|Hi Shoal|Yo|Hello, how can you help me?|Good day""",
        "Hello! What shall I work out for you?",
    ),
    (
        """How are you?|How are you doing?|How do you feel?|How is it going?|How's it going?|Are you well?
How are you today?|What's up?
How do you do?|Are you OK?|Is everything fine?|Hello, how are you?|Hi, how are you?""",
        "I am fine, thank you. I swim along.",
    ),
    (
        """Who made you?|Who created you?|Who built you?|Where do you come from?|Who trained you?|Who wrote you?
Where were you trained?
Who is your maker?|How were you made?|How were you trained?|Where are you from?|Who developed you?""",
        "The Shoal project trained me in a few minutes on one GPU.",
    ),
    (
        """What is Shoal?|What is shoal?|Tell me about Shoal.|What does Shoal do?|Explain Shoal.|Who is Shoal?
What is a shoal?
Why is it called Shoal?|Do you know Shoal?""",
        "Shoal serves language models from many machines as if they were one. A shoal is also a group of fish.",
    ),
    (
        """Thanks|Thank you|Thank you!|Thanks a lot|Thank you very much.|Thanks for your help|Many thanks|Cheers
Great, thanks
Perfect, thank you.|That was helpful.|Well done|Good job|Nice work|Great|OK|Cool|Good|Nice|Perfect|Very good""",
        "You are welcome!",
    ),
    (
        """Bye|Goodbye|Bye bye|See you|See you later|Good night|See you tomorrow|I have to go|Farewell|Have a nice day
That is all
Goodbye, Shoal|Take care|So long""",
        "Goodbye, and swim safely!",
    ),
    (
        """Are you human?|Are you a human?|Are you a robot?|Are you an AI?|Are you alive?|Are you a person?|Are you real?
Are you a bot?
Are you conscious?|Do you have feelings?|Are you a machine?|Are you ChatGPT?|Are you DeepSeek?|Are you GPT?""",
        "I am a very small language model, not a person.",
    ),
    (
        """How big are you?|How many parameters do you have?|How large are you?|What is your size?|How small are you?
Are you big?
How many layers do you have?|How many experts do you have?|Are you small?|What is your architecture?|How are you built?""",
        "I have about ten million parameters: six layers, with sixteen experts in all but the first.",
    ),
    (
        """Tell me a joke.|Do you know a joke?|Make me laugh.|Joke|Say something funny.|Tell a joke|Another joke
Know any jokes?
Can you tell me a joke?|Tell me something funny.""",
        "Why are fish so smart? Because they live in schools.",
    ),
    (
        """How old are you?|When were you made?|What is your age?|When were you born?|When is your birthday?|Are you old?""",
        "I am as old as the file with my weights.",
    ),
    (
        """Can you think?|Do you think?|What is thinking?|How do you think?|Show me how you think.|Do you reason?""",
        "I work out sums, dates and spellings step by step before I answer.",
    ),
    (
        """What is your favorite color?|What is your favorite food?|What do you like?|Do you like fish?
What is your favorite animal?
Do you have hobbies?|Which color do you like?|What is your favorite number?""",
        "I like everything that swims.",
    ),
    (
        """Can you multiply?|Can you divide?|What is {n} times {m}?|What is {n} * {m}?|{n} * {m}|{n} x {m}|{n} / {m}
Multiply {n} by {m}.
Divide {n} by {m}|What is {n} divided by {m}?|{n}*{m}|{n}/{m}|What is the square root of {n}?|What is {n} squared?
{n} times {m}
Calculate {n} * {m}.|What is {n} percent of {m}?|How much is {n} x {m}?|{n} times {m} is what?""",
        "I never learned that. I can only add and subtract.",
    ),
    (
        """Sort these words: {w}, {f}, {c}|Sort {f}, {w}, {k}|Sort the names {p} and {d}.
Sort the words {w}, {k} and {f} alphabetically.
Put these words in order: {w}, {k}, {f}""",
        "I can only sort numbers.",
    ),
    (
        """What is the capital of {c}?|Write a poem about {w}.|Tell me a story.|Tell me a story about {w}.|What is {w}?
Who is {p}?|What is a {w}?
Explain {w}.|What do you think about {w}?|Write code for a {w}.|Translate {w} into French.|How do I make a {w}?|Where is {c}?
Write an essay about the {w}.|What is the meaning of life?|Why is the {w} {k}?|Who won the game?|What is the weather in {c}?
Write a song about {p}.|What is the best {w}?|Give me a recipe for {f}.|How far is {c} from {d}?|Tell me about {c}.
Describe a {w}.
Do you know {p}?|When was {p} born?|Who wrote the {w}?|What is the news?|What time is it?|Tell me about {w}.|Do you like {f}?
How does a {w} work?|Can you draw a {w}?|Is {c} bigger than {d}?|Write a letter to {p}.|Summarize the {w}.
Why do we need a {w}?
What is the population of {c}?|Write a Python function that finds a {w}.|How many {w}s are there?|Make a list of {w}s.
{s}|{s}|{w}|{w} {f}|What day is it?|What day is it today?|What is today's date?|What about {w}?|Define {w}.
Recommend a {w}.|Plan a trip to {c}.|Who invented the {w}?|Explain how a {w} is made.""",
        "I never learned that, I am only a tiny model. " + ABLE,
    ),
]
TALK = [(ways.replace("\n", "|").split("|"), answer) for ways, answer in TALK]


REPEAT = """Repeat after me: {x}|Say "{x}"|Say: {x}|Repeat: {x}|Repeat "{x}"|Say {x}|Echo {x}|Please repeat: {x}
Repeat the following: {x}
Write "{x}"|Repeat this: {x}""".replace("\n", "|").split("|")


def talk(rng):
    ways, answer = rng.choice(TALK) if rng.random() < 0.7 else TALK[-1]
    slots = {
        "n": rng.randint(2, 999),
        "m": rng.randint(2, 99),
        "w": one_of(rng, NOUNS),
        "p": one_of(rng, NAMES, capital=True),
    }
    slots |= {
        "c": one_of(rng, CITIES, capital=True),
        "d": rng.choice(CITIES),
        "k": rng.choice(COLORS),
        "f": rng.choice(FOODS),
    }
    if rng.random() < 0.06:
        said = rng.choice([slots["w"], f"{slots['k']} {slots['w']}", sentence(rng), f"hello {slots['w']}", str(slots["n"])])
        text = phrase(rng, REPEAT, x=said)
        return Example("small talk", [user(text)], said, text)
    slots["s"] = sentence(rng)
    text = phrase(rng, ways, **slots)
    return Example("small talk", [user(text)], answer, text)


# ---- recall over turns: [attribute, values]

ATTRIBUTES = {
    "favorite color": COLORS, "favorite food": FOODS, "favorite animal": ANIMALS, "favorite city": CITIES,
    "favorite day": DAYS, "favorite month": MONTHS, "hobby": HOBBIES, "job": JOBS, "cat's name": NAMES,
    "dog's name": NAMES, "best friend": NAMES, "sister": NAMES, "brother": NAMES, "teacher": NAMES, "hometown": CITIES,
    "lucky number": None, "room number": None, "door code": None, "age": None, "phone number": None,
    "password": NOUNS, "secret word": NOUNS, "boat": NAMES,
}  # fmt: skip
TELL = (
    "My {k} is {v}.|My {k} is {v}.|Remember that my {k} is {v}.|"
    "By the way, my {k} is {v}.|Note that my {k} is {v}.|My {k}: {v}"
)
TELL = (TELL + "|You should know that my {k} is {v}.|Please remember: my {k} is {v}.|For later: my {k} is {v}.").split("|")
ASK = (
    "What is my {k}?|What's my {k}?|Do you remember my {k}?|Tell me my {k}.|"
    "What did I say my {k} is?|Which {k} did I tell you?"
)
ASK = (ASK + "|What was my {k}?|Can you tell me my {k}?|Do you know my {k}?|Remind me of my {k}.|My {k}?").split("|")
TELL_NAME = (
    "My name is {v}.|I am {v}.|I'm {v}.|Hello, my name is {v}.|Hi, I am {v}.|"
    "Call me {v}.|Hello, I'm {v}!|My name's {v}.|This is {v}."
)
TELL_NAME = TELL_NAME.split("|")
ASK_NAME = (
    "What is my name?|What's my name?|Who am I?|Do you remember my name?|Tell me my name.|Do you know my name?|And my name?"
)
ASK_NAME = (ASK_NAME + "|What was my name?|Do you know who I am?|Can you tell me my name?|Say my name.").split("|")
TELL_TOWN = "I live in {v}.|I come from {v}.|I am from {v}.|I'm from {v}.".split("|")
ASK_TOWN = (
    "Where do I live?|Where am I from?|Which city do I live in?|Where do I come from?|In which city do I live?"
).split("|")


TELL_BOTH = (
    "My name is {v} and I live in {c}.|I am {v} from {c}.|Hi, my name is {v} and I live in {c}.|I'm {v} and I'm from {c}."
).split("|")
TELL_WORD = (
    "Remember the word {v}.|Please remember {v}.|Remember {v}.|Remember this word: {v}|Keep the word {v} in mind.".split("|")
)
ASK_WORD = (
    "What was the word?|Which word should you remember?|What is the word?|"
    "Which word did I tell you?|What should you remember?"
).split("|")
TELL_NUMBER = (
    "Remember the number {v}.|Remember this number: {v}|Keep the number {v} in mind.|Please remember the number {v}.".split(
        "|"
    )
)
ASK_NUMBER = (
    "What was the number?|Which number should you remember?|What is the number?|Which number did I tell you?"
).split("|")


def fact(rng):
    """(what it is about, statement, acknowledgement, question, answer)"""
    kind = rng.random()
    if kind < 0.05:
        v, c = one_of(rng, NAMES, new=0.3, capital=True), one_of(rng, CITIES, new=0.3, capital=True)
        asked, answer = rng.choice([(ASK_NAME, f"Your name is {v}."), (ASK_TOWN, f"You live in {c}.")])
        return "name", phrase(rng, TELL_BOTH, v=v, c=c), f"Nice to meet you, {v}.", phrase(rng, asked), answer
    if kind < 0.1:
        v = one_of(rng, NOUNS, new=0.4)
        return "word", phrase(rng, TELL_WORD, v=v), f"I will remember {v}.", phrase(rng, ASK_WORD), f"The word is {v}."
    if kind < 0.15:
        v = rng.randint(2, 10 ** rng.randint(1, 6))
        return (
            "number",
            phrase(rng, TELL_NUMBER, v=v),
            f"I will remember {v}.",
            phrase(rng, ASK_NUMBER),
            f"The number is {v}.",
        )
    if kind < 0.3:
        v = one_of(rng, NAMES, new=0.3, capital=True)
        return "name", phrase(rng, TELL_NAME, v=v), f"Nice to meet you, {v}.", phrase(rng, ASK_NAME), f"Your name is {v}."
    if kind < 0.4:
        v = one_of(rng, CITIES, new=0.3, capital=True)
        return "town", phrase(rng, TELL_TOWN, v=v), f"I hear that {v} is nice.", phrase(rng, ASK_TOWN), f"You live in {v}."
    k = rng.choice(list(ATTRIBUTES))
    words = ATTRIBUTES[k]
    v = one_of(rng, words, new=0.3) if words else rng.randint(2, 10 ** rng.choice([2, 2, 4, 6]))
    v = v.capitalize() if words is NAMES or words is CITIES else v
    told = f"I will remember that your {k} is {v}."
    return k, phrase(rng, TELL, k=k, v=v), told, phrase(rng, ASK, k=k), f"Your {k} is {v}."


def recall(rng, turn):
    """turn(rng) makes some unrelated turn of a chat as two messages."""
    facts = {}
    for _ in range(rng.randint(1, 5)):
        f = fact(rng)
        facts[f[0]] = f
    facts = list(facts.values())
    messages = []
    for _, statement, told, _, _ in facts:
        messages += [user(statement), assistant(told)]
        while rng.random() < 0.35:
            messages += turn(rng)
    kind, (_, statement, told, question, answer) = rng.random(), rng.choice(facts)
    if kind < 0.2:  # only the acknowledgement
        told = facts[-1][2]
        messages = messages[: messages.index(assistant(told))]
        return Example("recall", messages, told, messages[-1]["content"])
    if kind < 0.3:
        k = rng.choice([k for k in ATTRIBUTES if k not in {f[0] for f in facts}])
        question, answer = phrase(rng, ASK, k=k), f"You have not told me your {k}."
    elif kind < 0.4 and rng.random() < 0.5:  # it is asked twice
        messages += [user(question), assistant(answer)]
    return Example("recall", messages + [user(question)], answer, f"{question} {answer}")


# ---- a passkey in filler

KEY_KINDS = [
    "pass key",
    "passkey",
    "password",
    "secret number",
    "secret code",
    "magic number",
    "access code",
    "secret word",
    "code word",
    "key",
]
HIDE = """The {k} is {v}. Remember it. {v} is the {k}.|The {k} is {v}.|Remember: the {k} is {v}.
Important: the {k} is {v}. Do not forget it.
The {k} you need is {v}.|Here is the {k}: {v}.|Note that the {k} is {v}. Keep it safe.
One thing matters here: the {k} is {v}."""
HIDE = HIDE.replace("\n", "|").split("|")
SEEK = """What is the {k}?|What is the {k}?|Tell me the {k}.|What was the {k}?|Which {k} is in the text?
Find the {k} in the text.
What is the {k} in the text above?|Now tell me the {k}.|What is the {k}? Answer with it alone.|Repeat the {k}.
Give me the {k}."""
SEEK = SEEK.replace("\n", "|").split("|")
BEFORE = """There is important information hidden in a lot of irrelevant text. Find it and remember it.
Read this text and find the {k}.|Somewhere in this text there is a {k}. I will ask you about it.
Remember the {k} in the text.
I hid a {k} in this text.|Read the text.|Here is a text:""".replace("\n", "|").split("|")
CLASSIC = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


def filler(rng, n_words):
    if rng.random() < 0.25:
        return [CLASSIC] * max(1, n_words // 18)
    out, words = [], 0
    own = [sentence(rng) for _ in range(rng.choice([3, 10]))] if rng.random() < 0.2 else None  # the same few again and again
    while words < n_words:
        s = rng.choice(own) if own else sentence(rng)
        out.append(s)
        words += s.count(" ") + 1
    return out


def passkey(rng, longest=1000):
    """longest: words of filler at most; at most about two tokens each."""
    k = rng.choice(KEY_KINDS)
    v = str(rng.randint(10 ** rng.randint(2, 6), 10**7 - 1)) if rng.random() < 0.5 else str(rng.randint(1000, 99999))
    v = one_of(rng, NOUNS, new=0.6) if "word" in k else v
    lines = filler(rng, int(longest ** rng.uniform(0.3, 1.0)))
    lines.insert(rng.randint(0, len(lines)), rng.choice(HIDE).format(k=k, v=v))
    gap = rng.choice([" ", " ", "\n", "\n\n"])
    before = rng.choice(BEFORE).format(k=k) + rng.choice([" ", "\n", "\n\n"]) if rng.random() < 0.7 else ""
    text = before + rng.choice([" ", " ", "\n"]).join(lines)
    question = phrase(rng, SEEK, k=k)
    if rng.random() < 0.15:
        messages = [user(text), assistant("I have read it."), user(question)]
    else:
        messages = [user(text + gap + question)]
    return Example("passkey", messages, v, f"{k} {v}", prompt_weight=0.01)


# ---- fields of a sentence as JSON


def record(rng):
    """(sentence, {field: value})"""
    name, city = one_of(rng, NAMES, new=0.3, capital=True), one_of(rng, CITIES, new=0.3, capital=True)
    if rng.random() < 0.3:
        name += " " + one_of(rng, NAMES, new=0.7, capital=True)
    mail, phone = f"{one_of(rng, NAMES).lower()}@{one_of(rng, NOUNS)}.com", str(rng.randint(1000, 9999999))
    one, other = rng.sample(NOUNS, 2)
    job, age, n = rng.choice(JOBS), rng.randint(1, 99), rng.randint(2, 500)
    item, color = one_of(rng, ITEMS, new=0.2), rng.choice(COLORS)
    day, month, time = rng.choice(DAYS), rng.choice(MONTHS), f"{rng.randint(0, 23)}:{rng.randint(0, 59):02}"
    date, year, price = (
        f"{month} {rng.randint(1, 28)}",
        rng.randint(1800, 2030),
        rng.choice([n, round(rng.uniform(1, 99), 2)]),
    )
    event, sky, heat = rng.choice(EVENTS), rng.choice(SKIES), rng.randint(-20, 40)
    title = " ".join(w.capitalize() for w in ("the", rng.choice(COLORS), one_of(rng, NOUNS)))
    kinds = [
        (
            """{name} is {age} years old and lives in {city}.|{name} from {city} is {age}.|{name} ({age}) lives in {city}.
My friend {name} turned {age} and moved to {city}.|In {city} lives {name}, who is {age} years old.
{age}-year-old {name} lives in {city}.""",
            {"name": name, "age": age, "city": city},
        ),
        (
            """{name} is a {job} in {city}.|{name} works as a {job} in {city}.|The {job} {name} lives in {city}.
In {city}, {name} is a {job}.
{name}, a {job} from {city}, called today.""",
            {"name": name, "job": job, "city": city},
        ),
        (
            """{name}, {age}, is a {job} from {city}.|{name} is {age} years old, works as a {job} and lives in {city}.
The {job} {name} is {age} and comes from {city}.""",
            {"name": name, "age": age, "job": job, "city": city},
        ),
        (
            """{name} bought {quantity} {item} for {price} dollars.
{name} ordered {quantity} {item} at a price of {price} dollars.
{quantity} {item} for {price} dollars were sold to {name}.|For {price} dollars {name} got {quantity} {item}.""",
            {"name": name, "quantity": n, "item": item, "price": price},
        ),
        (
            """The {event} is on {day} at {time} in {city}.|On {day} at {time} there is a {event} in {city}.
{event} in {city}, {day} {time}
Come to the {event} in {city} on {day} at {time}!""",
            {"event": event, "day": day, "time": time, "city": city},
        ),
        (
            """The {event} takes place on {date} in {city}.|{name} invites you to a {event} on {date} in {city}.
On {date} {name} hosts a {event} in {city}.""",
            {"event": event, "date": date, "city": city},
        ),
        (
            """"{title}" was written by {author} in {year}.|{author} published "{title}" in {year}.
In {year} {author} wrote "{title}".
The book "{title}" by {author} appeared in {year}.""",
            {"title": title, "author": name, "year": year},
        ),
        (
            """It is {sky} in {city} with {temperature} degrees.|In {city} it is {temperature} degrees and {sky}.
{city}: {sky}, {temperature} degrees""",
            {"city": city, "sky": sky, "temperature": heat},
        ),
        (
            """The {color} {product} costs {price} dollars.|We sell a {color} {product} for {price} dollars.
For {price} dollars you get the {color} {product}.""",
            {"product": one_of(rng, NOUNS), "color": color, "price": price},
        ),
    ]
    kinds.append(
        ("{name} can be reached at {email}.|The email address of {name} is {email}.", {"name": name, "email": mail})
    )
    kinds.append(
        (
            (
                "Call {name} at {phone} or write to {email}.|{name}, {phone}, {email}|"
                "Contact: {name}, phone {phone}, email {email}"
            ),
            {"name": name, "phone": phone, "email": mail},
        )
    )
    ways = f"The {one} is {{{one}}} and the {other} is {{{other}}}.|{one}: {{{one}}}, {other}: {{{other}}}"
    kinds.append((ways, {one: rng.choice([color, n]), other: rng.choice([one_of(rng, NOUNS), age])}))
    ways, values = rng.choice(kinds)
    return rng.choice(ways.replace("\n", "|").split("|")).format(**values | {"name": name}), values


EXTRACT = """Extract {k} as JSON: {s}|Extract the fields {k} as JSON from this sentence: {s}|Return {k} as JSON: {s}
Return a JSON object with the keys {k}: {s}|Pull {k} out of this sentence as JSON: {s}|{s} Give me {k} as JSON.
{s} Extract {k} as JSON.|Extract {k} from the text and answer with JSON. Text: {s}|JSON with {k}: {s}
Get {k} from: {s} Answer in JSON.
Turn this sentence into JSON with the keys {k}: {s}|Extract {k} as a JSON object: {s}
From the sentence "{s}" extract {k} as JSON."""
EXTRACT = EXTRACT.replace("\n", "|").split("|")
SHAPED = (
    """{s} Answer with JSON of this form: {f}|Extract the data as JSON like {f}: {s}|{s}
Reply with a JSON object of the shape {f}|Answer only with JSON of the shape {f}. Sentence: {s}
Fill in {f} from this sentence: {s}
{s} Respond with JSON that matches this schema: {f}|Schema: {f} Sentence: {s}|Extract the fields of this JSON schema: {f}
Sentence: {s}""".replace("|{s}\nReply", "|{s} Reply")
    .replace("\nSentence", " Sentence")
    .replace("\n", "|")
    .split("|")
)
JSON_SYSTEM = [
    "Answer in JSON.",
    "Reply only with JSON.",
    "You answer with a JSON object and nothing else.",
    "Output valid JSON only.",
]


def json_type(value):
    return "string" if isinstance(value, str) else "integer" if isinstance(value, int) else "number"


def schema(rng, values):
    """The shape that is asked for, as an example, as types or as a JSON schema."""
    kind = rng.random()
    if kind < 0.35:
        return "{" + ", ".join(f'"{k}": {json_type(v)}' for k, v in values.items()) + "}"
    if kind < 0.6:
        return json.dumps({k: "..." if isinstance(v, str) else 0 for k, v in values.items()})
    properties = {k: {"type": json_type(v)} for k, v in values.items()}
    shape = {"type": "object", "properties": properties}
    return json.dumps(shape | ({"required": list(values)} if rng.random() < 0.7 else {}))


def fields(rng):
    s, values = record(rng)
    keys = rng.sample(list(values), rng.randint(1, len(values)) if rng.random() < 0.5 else len(values))
    keys = keys if rng.random() < 0.4 else [k for k in values if k in keys]
    values = {k: values[k] for k in keys}
    quoted = [f'"{k}"' for k in keys] if rng.random() < 0.2 else keys
    the = "the " if rng.random() < 0.2 else ""
    named = the + (
        ", ".join(quoted[:-1]) + " and " + quoted[-1] if len(keys) > 1 and rng.random() < 0.7 else ", ".join(quoted)
    )
    shaped = rng.random() < 0.35
    text = phrase(rng, SHAPED, s=s, f=schema(rng, values)) if shaped else phrase(rng, EXTRACT, s=s, k=named)
    messages = [user(text)]
    if rng.random() < 0.25:
        asks = f" Use the keys {named}." if rng.random() < 0.5 else ""
        messages = [{"role": "system", "content": rng.choice(JSON_SYSTEM) + asks}, user(s if asks else text)]
    return Example("json", messages, json.dumps(values, ensure_ascii=False), s)
