"""Tasks with one right answer that is worked out: sums, counting, sorting, reversing, days and dates."""

from chat import Example, user
from phrase import listing, phrase
from words import ANIMALS, CITIES, COLORS, DAYS, FOODS, ITEMS, LETTERS, MONTH_DAYS, MONTHS, NAMES, NOUNS, NUMBER_WORDS
from words import one_of

# ---- sums and differences

SIGNS = ["+", " + ", " + ", "+ ", " +"]
SUMS = """What is {x}?|What's {x}?|{x}|{x}=|{x} =|{x} = ?|Calculate {x}.|Compute {x}|Work out {x}|How much is {x}?|Solve {x}
Solve: {x}|Tell me {x}.|What does {x} equal?|What is the result of {x}?|Evaluate {x}|Can you calculate {x}?
What do you get for {x}?
Please compute {x}.|I need {x}.|How much does {x} make?|{x}?|Give me the answer to {x}|What is the value of {x}?""".replace(
    "\n", "|"
)
SUMS = SUMS.split("|")
ADD_WORDS = """Add {a} and {b}.|Add {b} to {a}.|What is the sum of {a} and {b}?|{a} plus {b}|What is {a} plus {b}?
Sum of {a} and {b}
How much is {a} plus {b}?|Can you add {a} and {b}?|What do you get if you add {a} and {b}?|Add {a} to {b}|Add up {a} and {b}.
Add the numbers {a} and {b}.|What is {a} and {b} together?|Find the sum of {a} and {b}|Calculate the sum {a} plus {b}.
I have {a} {item} and get {b} more. How many {item} do I have?
{name} has {a} {item}. {name} buys {b} more. How many {item} now?
There are {a} {item} here and {b} {item} there. How many {item} are there in total?""".replace("\n", "|").split("|")
ADD_THREE = """What is {a} + {b} + {c}?|{a} + {b} + {c}|{a}+{b}+{c}|Add {a}, {b} and {c}.
What is the sum of {a}, {b} and {c}?|Sum {a}, {b}, {c}
{a} plus {b} plus {c}|How much is {a} + {b} + {c}?|Calculate {a} + {b} + {c}.|Add up {a}, {b} and {c}""".replace(
    "\n", "|"
).split("|")
SUB_WORDS = """Subtract {b} from {a}.|{a} minus {b}|What is {a} minus {b}?|How much is {a} minus {b}?|Take {b} away from {a}.
What is the difference between {a} and {b}?|Can you subtract {b} from {a}?|What is left if you take {b} from {a}?
What remains of {a} after taking away {b}?|Take {b} from {a}|Find {a} minus {b}.|Calculate {a} minus {b}
I have {a} {item} and give away {b}. How many {item} are left?
{name} has {a} {item} and loses {b}. How many {item} remain?"""
SUB_WORDS = SUB_WORDS.replace("\n", "|").split("|")


def operand(rng, digits):
    return rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)


def columns(a, b, step):
    """Column by column from the right; step(x, y, carry) → (line, next carry)."""
    width, carry, lines = max(len(str(a)), len(str(b))), 0, []
    for i in range(width):
        line, carry = step(a // 10**i % 10, b // 10**i % 10, carry)
        lines.append(line)
    if carry:
        lines.append("write 1")
    return "\n".join(lines) + "\n"


def add_step(x, y, carry):
    total = x + y + carry
    line = f"{x}+{y}{'+1' if carry else ''}={total}"
    return (f"{line} write {total % 10} carry 1", 1) if total > 9 else (f"{line} write {total}", 0)


def sub_step(x, y, borrow):
    total = x - y - borrow
    line = f"{x}-{y}{'-1' if borrow else ''}={total}"
    return (f"{line} write {total + 10} borrow 1", 1) if total < 0 else (f"{line} write {total}", 0)


def three_numbers(rng):
    a, b, c = (operand(rng, rng.randint(1, 3)) for _ in range(3))
    text = phrase(rng, ADD_THREE, a=a, b=b, c=c)
    return Example(
        "addition",
        [user(text)],
        str(a + b + c),
        text,
        f"{a}+{b}\n{columns(a, b, add_step)}{a + b}+{c}\n{columns(a + b, c, add_step)}",
    )


def arithmetic(rng):
    if rng.random() < 0.05:
        return three_numbers(rng)
    digits = rng.randint(1, 5)
    a, b = operand(rng, digits), operand(rng, digits if rng.random() < 0.5 else rng.randint(1, 5))
    slots = {"a": a, "b": b, "item": rng.choice(ITEMS), "name": rng.choice(NAMES)}
    if rng.random() < 0.5:
        sign = rng.choice(SIGNS)
        written = f"{a:,}{sign}{b:,}" if rng.random() < 0.04 else f"{a}{sign}{b}"
        text = phrase(rng, ADD_WORDS, **slots) if rng.random() < 0.35 else phrase(rng, SUMS, x=written)
        think, answer, task = columns(a, b, add_step), a + b, "addition"
    else:
        if a < b and rng.random() < 0.7:
            a, b = b, a
        slots |= {"a": max(a, b), "b": min(a, b)}
        in_words, sign = rng.random() < 0.35, rng.choice(SIGNS).replace("+", "−" if rng.random() < 0.04 else "-")
        if in_words:
            a, b = slots["a"], slots["b"]
        text = phrase(rng, SUB_WORDS, **slots) if in_words else phrase(rng, SUMS, x=f"{a}{sign}{b}")
        think = columns(a, b, sub_step) if a >= b else f"{a}<{b} so -({b}-{a})\n" + columns(b, a, sub_step)
        answer, task = a - b, "subtraction"
    key = f"{task} {a} {b}" if max(a, b) > 99 else text
    return Example(task, [user(text)], str(answer), key, think)


# ---- counting

COUNT_ONE = """Count to {b}.|Count up to {b}.|Can you count to {b}?|Please count to {b}|Count to {b} for me.|Count until {b}
I want you to count to {b}.|Count all the way to {b}.""".replace("\n", "|").split("|")
COUNT = """Count from {a} to {b}.|Count from {a} to {b}|Count from {a} to {b}.|Count {a} to {b}|Count from {a} up to {b}.
Please count from {a} to {b}.|Can you count from {a} to {b}?|List the numbers from {a} to {b}.
Write the numbers from {a} to {b}.
List all numbers from {a} to {b}|Count up from {a} to {b}.|Give me all numbers from {a} to {b}.
Say the numbers from {a} to {b}.
Start at {a} and count to {b}.|Numbers from {a} to {b}|Count slowly from {a} to {b}.|Write out the numbers {a} to {b}.
Show me the numbers from {a} to {b}|Print the numbers from {a} to {b}.|Could you count from {a} to {b} for me?
Counting from {a} to {b}
Begin with {a} and count up to {b}.|I would like you to count from {a} to {b}.|Count the numbers from {a} to {b}.
Count {a}-{b}
Count from {a} to {b}, separated by commas.|Enumerate {a} to {b}.|Count from {a} through {b}.|Count from {a} until {b}.
Let's count from {a} to {b}!|Go from {a} to {b}.|Tell me the numbers from {a} to {b}.""".replace("\n", "|").split("|")
COUNT_DOWN = """Count down from {b} to {a}.|Count from {b} down to {a}.|Count backwards from {b} to {a}.
Count from {b} to {a}.
Count down {b} to {a}|Please count down from {b} to {a}.|List the numbers from {b} down to {a}.
Start at {b} and count down to {a}.
Can you count backwards from {b} to {a}?""".replace("\n", "|").split("|")
COUNT_DOWN_ONE = "Count down from {b}.|Count backwards from {b}.|Count down from {b}|Count down starting at {b}.".split("|")
COUNT_TAILS = """ One number per line.| Do not skip any.| Do not stop early.| Nothing else.| Slowly, please.
 Separate them by commas.| Don't stop.
 Take your time.| Without a break.| And nothing else.| No other text.| All of them.| Please go slowly.""".replace(
    "\n", "|"
).split("|")


def counting(rng):
    kind = rng.random()
    if kind < 0.5:
        a, b = 1, rng.choice([60, 100, rng.randint(2, 60), rng.randint(2, 130), rng.randint(2, 130), rng.randint(100, 200)])
    elif kind < 0.85:
        a = rng.randint(0, rng.choice([20, 100, 250]))
        b = a + rng.choice([rng.randint(1, 15), rng.randint(1, 60), rng.randint(1, 100)])
    else:
        a = rng.choice([0, 1, 1, rng.randint(0, 150)])
        b = a + rng.randint(1, rng.choice([10, 20, 60]))
    down = kind >= 0.85
    numbers = range(b, a - 1, -1) if down else range(a, b + 1)
    templates = COUNT_DOWN if down else COUNT_ONE if a == 1 and rng.random() < 0.3 else COUNT
    words = rng.random() < 0.15 and a in NUMBER_WORDS and b in NUMBER_WORDS
    text = phrase(rng, templates, a=NUMBER_WORDS[a] if words else a, b=NUMBER_WORDS[b] if words else b)
    if down and a == 1 and rng.random() < 0.4:
        text = phrase(rng, COUNT_DOWN_ONE, b=b)
    if rng.random() < 0.08:
        text += ("" if text[-1] in ".?!" else rng.choice([".", ",", " -"])) + rng.choice(COUNT_TAILS)
    key = text if a == 1 else f"count {down} {a} {b}"
    return Example("counting", [user(text)], ", ".join(map(str, numbers)), key)


# ---- sorting

SORT = """Sort these numbers: {x}|Sort {x}|Sort {x}.|Sort the numbers {x}.|Sort the list {x}
Sort the numbers {x} in ascending order.
Put these numbers in order: {x}|Arrange these numbers from smallest to largest: {x}|Order these numbers: {x}|Sort: {x}
Please sort {x}.|Can you sort these numbers? {x}|Sort the following numbers: {x}|Order the numbers {x} from low to high.
Sort this list: {x}|Sort these: {x}|Put {x} in order.|What is {x} in ascending order?|Arrange in ascending order: {x}
Sort from smallest to largest: {x}|Sort this list of numbers: {x}.|Sort the list of numbers {x}.
Sort these numbers ascending: {x}
Here are some numbers: {x}. Sort them.|Bring these numbers into order: {x}""".replace("\n", "|").split("|")
SORT_DOWN = """Sort these numbers from largest to smallest: {x}|Sort {x} in descending order.|Sort descending: {x}
Put these numbers in descending order: {x}|Arrange from largest to smallest: {x}|Order these numbers from high to low: {x}
Sort {x} from high to low.|Sort these numbers in reverse order: {x}|Sort the list {x} from largest to smallest."""
SORT_DOWN = SORT_DOWN.replace("\n", "|").split("|")


EXTREME = {
    max: """What is the largest of {x}?|What is the largest number in {x}?|Which number is the largest: {x}?
Find the maximum of {x}.
What is the biggest number in {x}?|Largest of these: {x}""".replace("\n", "|").split("|"),
    min: """What is the smallest of {x}?|What is the smallest number in {x}?|Which number is the smallest: {x}?
Find the minimum of {x}.
Smallest of these: {x}""".replace("\n", "|").split("|"),
}


def sorting(rng):
    top = rng.choice([9, 20, 99, 99, 100, 999, 999, 9999])
    numbers = [rng.randint(0 if rng.random() < 0.1 else 1, top) for _ in range(rng.randint(2, 10))]
    if rng.random() < 0.06:
        pick = rng.choice([max, min])
        text = phrase(rng, EXTREME[pick], x=listing(rng, numbers))
        return Example("sorting", [user(text)], str(pick(numbers)), text)
    down = rng.random() < 0.2
    text = phrase(rng, SORT_DOWN if down else SORT, x=listing(rng, numbers))
    answer = ", ".join(map(str, sorted(numbers, reverse=down)))
    return Example("sorting", [user(text)], answer, f"sort {down} {numbers}" if len(numbers) > 3 else text)


# ---- reversing

REVERSE_WORD = """Reverse the word {x}.|Reverse the word {x}|Reverse {x}|Reverse "{x}"|Spell {x} backwards.
What is {x} backwards?
Write the word {x} backwards.|Reverse the letters of {x}.|Reverse the string {x}|Can you reverse the word {x}?
What is {x} spelled backwards?|Reverse this word: {x}|Reverse the word "{x}".|Reverse the word '{x}'.|Reverse: {x}
Turn the word {x} around.|Please reverse the word {x}.|How do you write {x} backwards?|Give me {x} in reverse."""
REVERSE_WORD = REVERSE_WORD.replace("\n", "|").split("|")
REVERSE_LIST = """Reverse the list {x}.|Reverse the list: {x}|Reverse this list: {x}|Reverse the order of {x}.
Reverse these words: {x}
Write this list backwards: {x}|Reverse the order of this list: {x}|Can you reverse this list? {x}
Reverse the following list: {x}
Turn this list around: {x}|Please reverse the list {x}|Reverse the words {x}.|List these in reverse order: {x}
Put this list in reverse order: {x}""".replace("\n", "|").split("|")
REVERSE_NUMBER = """Reverse the number {x}.|Reverse the digits of {x}.|Write {x} backwards.|Reverse {x}
What is {x} backwards?
Reverse the digits {x}""".replace("\n", "|").split("|")


def reversing(rng, known):
    """known: words whose spelling the model should know, because they are tokens of their own in its vocabulary."""
    kind = rng.random()
    if kind < 0.55:
        word = one_of(rng, known, new=0.4)
        case = rng.random()
        word = word.capitalize() if case < 0.1 else word.upper() if case < 0.15 else word
        think = " " + " ".join(word) + "\n " + " ".join(word[::-1]) + "\n"
        text, answer = phrase(rng, REVERSE_WORD, x=word), word[::-1]
        return Example("reversing", [user(text)], answer, text, think)
    if kind < 0.7:
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 10)))
        text, answer = phrase(rng, REVERSE_NUMBER, x=digits), digits[::-1]
        return Example("reversing", [user(text)], answer, f"reverse {digits}" if len(digits) > 3 else text)
    source = rng.choice([NOUNS, ANIMALS, FOODS, COLORS, NAMES, CITIES, DAYS, MONTHS, LETTERS, None])
    n = rng.randint(2, 8)
    values = [rng.randint(0, rng.choice([9, 99, 999])) for _ in range(n)]
    if source:
        values = [one_of(rng, source, new=0.15) for _ in range(n)]
    text = phrase(rng, REVERSE_LIST, x=listing(rng, values))
    return Example("reversing", [user(text)], ", ".join(map(str, values[::-1])), f"reverse {values}" if n > 2 else text)


# ---- days and dates (years have 365 days unless a year is named)

DAY_AFTER = """What day is {n} days after {d}?|Which day comes {n} days after {d}?
What day of the week is {n} days after {d}?
If today is {d}, what day is it in {n} days?|Today is {d}. What day will it be in {n} days?|What is {n} days after {d}?
{n} days after {d} is which day?|What weekday is {n} days after {d}?|Which weekday is it {n} days after {d}?
{d} plus {n} days
It is {d}. What day is it {n} days from now?|What day will it be {n} days after {d}?
Which day of the week is {n} days after {d}?"""
DAY_AFTER = DAY_AFTER.replace("\n", "|").split("|")
DAY_BEFORE = """What day is {n} days before {d}?|Which day was {n} days before {d}?
What day of the week was {n} days before {d}?
If today is {d}, what day was it {n} days ago?|Today is {d}. What day was it {n} days ago?
What weekday was {n} days before {d}?"""
DAY_BEFORE = DAY_BEFORE.replace("\n", "|").split("|")
DAY_NEXT = """What day comes after {d}?|Which day comes after {d}?|What is the day after {d}?
If today is {d}, what day is tomorrow?
Today is {d}. What day is tomorrow?|What day follows {d}?|Which day is after {d}?|Tomorrow of {d}?""".replace(
    "\n", "|"
).split("|")
DAY_PREVIOUS = """What day comes before {d}?|Which day comes before {d}?|If today is {d}, what day was yesterday?
What is the day before {d}?
Today is {d}. What day was yesterday?""".replace("\n", "|").split("|")
MONTH_NEXT = (
    "Which month comes after {m}?|What month follows {m}?|What is the month after {m}?|What month comes after {m}?".split(
        "|"
    )
)
MONTH_PREVIOUS = "Which month comes before {m}?|What is the month before {m}?|What month comes before {m}?".split("|")
MONTH_LENGTH = (
    "How many days does {m} have?|How many days are in {m}?|How long is {m}?|How many days are there in {m}?".split("|")
)
LEAP = (
    "Is {y} a leap year?|Was {y} a leap year?|Is the year {y} a leap year?|Leap year {y}?|Tell me if {y} is a leap year."
).split("|")
DATE_AFTER = """What date is {n} days after {d}?|What is the date {n} days after {d}?|Which date is {n} days after {d}?
{d} plus {n} days
Today is {d}. What date is it in {n} days?|If today is {d}, what is the date in {n} days?|Add {n} days to {d}.
What is {n} days after {d}?
What day is {n} days after {d}?""".replace("\n", "|").split("|")
DATE_BEFORE = """What date is {n} days before {d}?|What was the date {n} days before {d}?|Which date was {n} days before {d}?
Today is {d}. What date was it {n} days ago?|Subtract {n} days from {d}.|{d} minus {n} days|What is {n} days before {d}?"""
DATE_BEFORE = DATE_BEFORE.replace("\n", "|").split("|")
DATE_BETWEEN = """How many days are there from {d} to {e}?|How many days is it from {d} to {e}?
How many days are between {d} and {e}?
Days from {d} to {e}?|Today is {d}. How many days until {e}?|How many days from {d} until {e}?""".replace("\n", "|").split(
    "|"
)


LENGTHS = """How many days are in a week?:7|How many days does a week have?:7|How many days are in a year?:365
How many months are in a year?:12
How many months does a year have?:12|How many hours are in a day?:24|How many hours does a day have?:24
How many weeks are in a year?:52
How many minutes are in an hour?:60|How many seconds are in a minute?:60|How many days does a year have?:365
How many days does a leap year have?:366|How many days are in a leap year?:366|How many days in a week?:7
How many months in a year?:12"""
LENGTHS = [pair.split(":") for pair in LENGTHS.replace("\n", "|").split("|")]


def day_name(rng, i):
    return DAYS[i].lower() if rng.random() < 0.08 else DAYS[i]


def date_name(rng, month, day):
    kind, name = rng.random(), MONTHS[month]
    if kind < 0.8:
        return f"{name} {day}"
    ending = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{name} {day}{ending}" if kind < 0.88 else f"{day} {name}" if kind < 0.94 else f"{name[:3]} {day}"


def weekday(rng):
    i, kind = rng.randrange(7), rng.random()
    if kind < 0.75:
        n = rng.randint(2, rng.choice([7, 30, 100, 365]))
        sign, templates = (1, DAY_AFTER) if rng.random() < 0.65 else (-1, DAY_BEFORE)
        return phrase(rng, templates, n=n, d=day_name(rng, i)), f"{n} mod 7 = {n % 7}\n", DAYS[(i + sign * n) % 7]
    sign, templates = (1, DAY_NEXT) if kind < 0.9 else (-1, DAY_PREVIOUS)
    return phrase(rng, templates, d=day_name(rng, i)), "", DAYS[(i + sign) % 7]


def calendar(rng):
    i, kind = rng.randrange(12), rng.random()
    if kind < 0.3:
        return phrase(rng, MONTH_NEXT, m=MONTHS[i]), "", MONTHS[(i + 1) % 12]
    if kind < 0.5:
        return phrase(rng, MONTH_PREVIOUS, m=MONTHS[i]), "", MONTHS[(i - 1) % 12]
    if kind < 0.6:
        question, answer = rng.choice(LENGTHS)
        return phrase(rng, [question]), "", answer
    if kind < 0.75:
        return phrase(rng, MONTH_LENGTH, m=MONTHS[i]), "", str(MONTH_DAYS[i])
    y = rng.randint(1600, 2400) if rng.random() < 0.7 else 100 * rng.randint(15, 30)
    if y % 100:
        return phrase(rng, LEAP, y=y), f"{y % 100} mod 4 = {y % 4}\n", "No" if y % 4 else "Yes"
    return phrase(rng, LEAP, y=y), f"{y // 100} mod 4 = {y // 100 % 4}\n", "No" if y % 400 else "Yes"


def walk(month, day):
    """Carries a day that is past the ends of its month into the right one, and tells how."""
    lines = []
    while day > MONTH_DAYS[month]:
        lines.append(f"{MONTHS[month]} has {MONTH_DAYS[month]} days, {day}-{MONTH_DAYS[month]}={day - MONTH_DAYS[month]}")
        day, month = day - MONTH_DAYS[month], (month + 1) % 12
    while day < 1:
        month = (month - 1) % 12
        lines.append(f"{MONTHS[month]} has {MONTH_DAYS[month]} days, {day}+{MONTH_DAYS[month]}={day + MONTH_DAYS[month]}")
        day += MONTH_DAYS[month]
    return lines, f"{MONTHS[month]} {day}"


def date(rng):
    month, kind = rng.randrange(12), rng.random()
    day, n = rng.randint(1, MONTH_DAYS[month]), rng.randint(1, rng.choice([10, 31, 60]))
    if kind < 0.5:
        lines, answer = walk(month, day + n)
        first = f"{day}+{n}={day + n}"
        return phrase(rng, DATE_AFTER, n=n, d=date_name(rng, month, day)), "\n".join([first] + lines) + "\n", answer
    if kind < 0.8:
        lines, answer = walk(month, day - n)
        first = f"{day}-{n}={day - n}"
        return phrase(rng, DATE_BEFORE, n=n, d=date_name(rng, month, day)), "\n".join([first] + lines) + "\n", answer
    if kind < 0.87 and day < MONTH_DAYS[month]:
        end = rng.randint(day + 1, MONTH_DAYS[month])
        text = phrase(rng, DATE_BETWEEN, d=date_name(rng, month, day), e=date_name(rng, month, end))
        return text, f"{end}-{day}={end - day}\n", str(end - day)
    following, left = (month + 1) % 12, MONTH_DAYS[month] - day
    end = rng.randint(1, MONTH_DAYS[following])
    think = f"{MONTHS[month]} has {MONTH_DAYS[month]} days, {MONTH_DAYS[month]}-{day}={left}\n{left}+{end}={left + end}\n"
    text = phrase(rng, DATE_BETWEEN, d=date_name(rng, month, day), e=date_name(rng, following, end))
    return text, think, str(left + end)


def dates(rng):
    kind = rng.random()
    text, think, answer = (weekday if kind < 0.4 else calendar if kind < 0.55 else date)(rng)
    return Example("dates", [user(text)], answer, text, think)
