"""Vocabulary of the little world. What is drawn from these lists is only ever copied, spelled or looked up by the model, so
every list is mixed with invented words (see invented), which keeps it from learning the lists by heart."""

NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olivia Paul Quinn Rosa Sam Tina Uma
Victor Wendy Xavier Yara Zoe Alice Bob Carol Dan Eve Frank Gina Hugo Irene Jonas Karen Liam Maria Nina Oscar Peter
Rita Simon Tom Ursula Vera Walter Amir Bianca Chen Diego Elena Farid Hana Ivan Jamal Keiko Lars Mei Nadia Omar Priya
Raj Sofia Tariq Yuki""".split()
CITIES = """Paris London Berlin Rome Madrid Oslo Vienna Prague Dublin Lisbon Tokyo Seoul Beijing Delhi Cairo Nairobi
Lima Quito Boston Chicago Denver Seattle Toronto Sydney Auckland Athens Warsaw Zurich Geneva Hamburg Munich Milan
Naples Lyon Porto Bergen Helsinki Stockholm Copenhagen Amsterdam Brussels Budapest Istanbul Mumbai Bangkok Singapore
Kyoto Osaka Dallas Austin""".split()
COLORS = (
    "red blue green yellow orange purple pink brown black white gray teal gold silver violet navy crimson turquoise".split()
)
ANIMALS = """cat dog horse cow sheep goat pig duck goose hen fox wolf bear lion tiger zebra mouse rat rabbit frog toad
snake turtle fish shark whale seal crab owl eagle raven sparrow parrot penguin ant bee spider camel donkey deer moose
otter badger""".split()
FOODS = """pizza pasta rice bread cheese soup salad apple banana cherry mango peach plum grape lemon melon carrot
potato tomato onion honey butter cake cookie chocolate noodles beans sushi curry tacos pancakes waffles""".split()
JOBS = """teacher doctor nurse baker farmer pilot painter writer singer dancer lawyer judge carpenter plumber engineer
chemist gardener cook driver sailor tailor potter librarian photographer scientist""".split()
HOBBIES = (
    "chess tennis football swimming hiking cooking reading painting singing dancing fishing sailing skiing running".split()
)
NOUNS = """time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work night point home water room mother area money story
fact month lot right study book eye job word business issue side kind head house service friend father power hour game
line end law car community president team minute idea body back parent face level office door health person art war
history party result change morning reason research girl guy moment air force education stone river mountain forest
garden window table chair lamp bottle bridge tower castle village market street island ocean desert valley planet
rocket engine ladder hammer needle button ribbon basket blanket pillow mirror candle kettle pencil paper letter number
picture summer winter autumn spring thunder lightning shadow silence music violin trumpet drum guitar piano computer
keyboard network router worker shoal token model strawberry elephant butterfly umbrella adventure""".split()
ADJECTIVES = """small large old young quiet loud bright dark warm cold soft hard slow fast happy sad green blue tall
short heavy light strange plain simple gentle brave clever lazy busy empty full clean dusty golden wooden broken
hidden distant""".split()
VERBS = """sees finds carries follows watches paints builds opens closes moves holds keeps likes wants needs takes
brings sells buys cleans repairs hides shows meets leaves remembers forgets draws counts visits""".split()
ADVERBS = "slowly quickly often never always quietly today again together alone carefully outside inside gladly".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()
NUMBER_WORDS = (
    dict(enumerate(SMALL))
    | {10 * i: w for i, w in enumerate("thirty forty fifty sixty seventy eighty ninety".split(), start=3)}
    | {100: "one hundred"}
)
EVENTS = "concert meeting party wedding lecture picnic game workshop dinner exam interview parade fair".split()
SKIES = "sunny cloudy rainy windy snowy foggy clear stormy".split()
ITEMS = (
    "apples pears books pens chairs lamps tickets shirts cups plates coins stamps eggs bottles stones boxes marbles".split()
)
LANGUAGES = "French German Spanish Italian Japanese Korean Chinese Arabic Dutch Greek Polish Turkish".split()
ROOMS = "kitchen bedroom bathroom hall garage office cellar attic garden".split()
CURRENCIES = "USD EUR GBP JPY CHF SEK NOK INR BRL CAD".split()

_ONSETS = "b c d f g h j k l m n p r s t v w z br cr dr fl gr pl pr sh sl st th tr ch qu".split()
_VOWELS = "a e i o u ai ea oo ou".split()
_CODAS = ["", "", "", "n", "r", "s", "t", "l", "m", "k", "nd", "st", "x", "ck"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def invented(rng):
    """A word nobody knows: syllables, now and then mere letters."""
    if rng.random() < 0.25:
        return "".join(rng.choice(LETTERS) for _ in range(rng.randint(3, 9)))
    syllables = rng.randint(1, 3)
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables))


def one_of(rng, words, new=0.2, capital=False):
    """A word of the list, or with probability new an invented one."""
    if rng.random() >= new:
        return rng.choice(words)
    word = invented(rng)
    return word.capitalize() if capital else word


def sentence(rng):
    """Filler: grammatical, meaningless, sometimes with a number in it."""
    a, b, x, y = rng.choice(NOUNS), rng.choice(NOUNS), rng.choice(ADJECTIVES), rng.choice(ADJECTIVES)
    kind = rng.random()
    if kind < 0.5:
        text = f"The {x} {a} {rng.choice(VERBS)} the {y} {b} {rng.choice(ADVERBS)}."
    elif kind < 0.65:
        text = f"{rng.choice(NAMES)} {rng.choice(VERBS)} the {a} near the {x} {b}."
    elif kind < 0.75:
        text = f"There were {rng.randint(2, 999)} {rng.choice(ITEMS)} in the {a}."
    elif kind < 0.85:
        text = f"In {rng.choice(CITIES)} every {a} has a {x} {b}."
    elif kind < 0.92:
        text = f"It was {x} and {y}, and the {a} was {rng.choice(COLORS)}."
    else:
        text = " ".join(invented(rng) for _ in range(rng.randint(4, 9))).capitalize() + "."
    return text
