"""Calling a tool that the system prompt lists, in DeepSeek's syntax, and answering from what it gave."""

import json
import re

from chat import Example, assistant_calls, call_text, tool, user
from phrase import phrase
from words import CITIES, COLORS, CURRENCIES, DAYS, EVENTS, FOODS, LANGUAGES, NAMES, NOUNS, ROOMS, SKIES, VERBS
from words import one_of

STRING, INTEGER = "string", "integer"


class Kind:
    """A tool in its variants: names and the names of parameters differ, so that they must be read in the prompt.

    parameters: [(names it may have, type, descriptions)]; ask: ways to ask with {0}, {1}, … for the values."""

    def __init__(self, names, about, parameters, ask, values, result=None):
        self.names, self.about, self.parameters = names.split(), about.split("|"), parameters
        self.ask, self.values, self.result = re.sub(r"{(\d)}", r"{v\1}", ask.replace("\n", "|")).split("|"), values, result


def city(rng):
    return one_of(rng, CITIES, new=0.3, capital=True)


def weather_result(rng, values):
    sky, heat = rng.choice(SKIES), rng.randint(-20, 40)
    output = {"temperature": heat, "sky": sky} if rng.random() < 0.7 else {"sky": sky, "temperature": heat}
    return json.dumps(output), f"It is {sky} in {values[0]} with {heat} degrees."


def time_result(rng, values):
    now = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    return rng.choice([now, json.dumps({"time": now})]), f"It is {now} in {values[0]}."


def price_result(rng, values):
    price = rng.choice([rng.randint(1, 900), round(rng.uniform(1, 900), 2)])
    return rng.choice([str(price), json.dumps({"price": price})]), f"{values[0]} stands at {price}."


def done_result(rng, values):
    return rng.choice(["ok", "OK", '{"ok": true}', '{"status": "ok"}', "done"]), "Done."


def amount_result(rng, values):
    amount = round(rng.uniform(1, 9999), 2)
    return rng.choice([str(amount), json.dumps({"amount": amount})]), f"That is {amount} {values[2]}."


def plain_result(rng, values):
    result = rng.choice([rng.randint(0, 9999), one_of(rng, NOUNS, new=0.4)])
    return rng.choice([str(result), json.dumps({"result": result})]), f"The result is {result}."


CITY = (["city", "location", "place", "town"], STRING, ["Name of the city", "The city", "A city"])
KINDS = [
    Kind(
        "get_weather weather current_weather lookup_weather weather_report get_current_weather",
        "Get the current weather in a city|Tells the weather of a place|Look up the weather|Current weather for a location",
        [CITY],
        """What is the weather in {0}?|How is the weather in {0}?|What's the weather like in {0}?|Is it raining in {0}?
Weather in {0}
Tell me the weather in {0}.|How warm is it in {0}?|Check the weather in {0}.|What is the weather in {0} today?
Is it sunny in {0}?""",
        lambda rng: [city(rng)],
        weather_result,
    ),
    Kind(
        "get_time current_time clock time_in_city lookup_time",
        "Get the current time in a city|Tells what time it is in a place|Local time of a city",
        [CITY],
        (
            "What time is it in {0}?|Tell me the time in {0}.|What is the time in {0}?|"
            "How late is it in {0}?|Time in {0}?|Current time in {0}"
        ),
        lambda rng: [city(rng)],
        time_result,
    ),
    Kind(
        "get_stock_price stock_price quote get_quote",
        "Get the price of a stock|Current price of a share by its symbol",
        [(["symbol", "ticker", "stock"], STRING, ["Ticker symbol", "The symbol of the stock"])],
        (
            "What is the price of {0}?|How does {0} stand?|Get the stock price of {0}.|"
            "Stock price of {0}|Look up {0}.|What does {0} cost?"
        ),
        lambda rng: ["".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 4)))],
        price_result,
    ),
    Kind(
        "set_timer start_timer timer",
        "Start a timer|Set a timer for some minutes",
        [(["minutes", "duration", "length"], INTEGER, ["Minutes", "How many minutes"])],
        (
            "Set a timer for {0} minutes.|Start a timer of {0} minutes.|Timer for {0} minutes|"
            "Wake me in {0} minutes.|Remind me in {0} minutes."
        ),
        lambda rng: [rng.randint(1, 120)],
        done_result,
    ),
    Kind(
        "send_message message send_text text_person",
        "Send a message to a person|Sends a text",
        [
            (["to", "recipient", "person", "name"], STRING, ["Who gets it", "The recipient"]),
            (["text", "message", "body"], STRING, ["What to say", "The text"]),
        ],
        'Send "{1}" to {0}.|Tell {0}: {1}|Send {0} the message "{1}".|Write to {0}: {1}|Text {0} "{1}"|Message {0}: {1}',
        lambda rng: [one_of(rng, NAMES, capital=True), short_text(rng)],
        done_result,
    ),
    Kind(
        "add_event create_event calendar_add schedule",
        "Add an event to the calendar|Put something into the calendar",
        [
            (["title", "event", "what"], STRING, ["Title of the event", "What happens"]),
            (["day", "when", "weekday"], STRING, ["Day of the week", "The day"]),
        ],
        """Add a {0} on {1}.|Put a {0} on {1} into my calendar.|Schedule a {0} for {1}.|Create an event: {0} on {1}
I have a {0} on {1}, add it please.""",
        lambda rng: [rng.choice(EVENTS), rng.choice(DAYS)],
        done_result,
    ),
    Kind(
        "convert_currency exchange convert currency",
        "Convert an amount of money|Convert between currencies",
        [
            (["amount", "value", "sum"], INTEGER, ["The amount", "How much"]),
            (["from", "source", "from_currency"], STRING, ["Currency to convert from", "Source currency"]),
            (["to", "target", "to_currency"], STRING, ["Currency to convert to", "Target currency"]),
        ],
        (
            "Convert {0} {1} to {2}.|How much is {0} {1} in {2}?|What are {0} {1} in {2}?|"
            "Change {0} {1} into {2}.|{0} {1} in {2}"
        ),
        lambda rng: [rng.randint(1, 999), *rng.sample(CURRENCIES, 2)],
        amount_result,
    ),
    Kind(
        "search web_search find_pages lookup",
        "Search the web|Find pages about something",
        [(["query", "q", "text", "topic"], STRING, ["What to look for", "The search words"])],
        "Search for {0}.|Search the web for {0}.|Find something about {0}.|Look up {0} on the web.|Web search: {0}",
        lambda rng: [short_text(rng)],
    ),
    Kind(
        "translate translate_text",
        "Translate a text|Translate into another language",
        [
            (["text", "phrase", "sentence"], STRING, ["The text", "What to translate"]),
            (["language", "target", "into"], STRING, ["Target language", "The language"]),
        ],
        'Translate "{0}" into {1}.|What is "{0}" in {1}?|Say "{0}" in {1}.|How do you say "{0}" in {1}?',
        lambda rng: [short_text(rng), rng.choice(LANGUAGES)],
    ),
    Kind(
        "set_light light lamp switch_light",
        "Switch a light on or off|Controls the lights",
        [
            (["room", "where", "place"], STRING, ["The room", "Which room"]),
            (["state", "status", "value"], STRING, ["on or off", "New state"]),
        ],
        (
            "Turn the light in the {0} {1}.|Switch {1} the light in the {0}.|"
            "Turn {1} the {0} light.|Light {1} in the {0}, please."
        ),
        lambda rng: [rng.choice(ROOMS), rng.choice(["on", "off"])],
        done_result,
    ),
    Kind(
        "order_food order buy_food",
        "Order food|Order something to eat",
        [
            (["item", "food", "dish"], STRING, ["What to order", "The dish"]),
            (["quantity", "count", "number"], INTEGER, ["How many", "Number of portions"]),
        ],
        "Order {1} portions of {0}.|I want {1} times {0}.|Get me {1} {0}.|Please order {0} for {1} people.",
        lambda rng: [rng.choice(FOODS), rng.randint(1, 20)],
        done_result,
    ),
]


def short_text(rng):
    kind = rng.random()
    if kind < 0.3:
        return one_of(rng, NOUNS)
    if kind < 0.65:
        return f"{rng.choice(COLORS)} {one_of(rng, NOUNS)}"
    return f"the {rng.choice(NOUNS)} {rng.choice(VERBS)} the {one_of(rng, NOUNS)}"


def made_up(rng):
    """A tool nobody has seen, asked for by its name."""
    name = rng.choice(VERBS).rstrip("s") + "_" + one_of(rng, NOUNS, new=0.5)
    names = rng.sample(NOUNS, rng.randint(1, 3))
    types = [rng.choice([STRING, INTEGER]) for _ in names]
    parameters = [([n], t, ["The " + n]) for n, t in zip(names, types)]
    pairs = ", ".join(f"{n} = {{{i}}}" for i, n in enumerate(names))
    spoken = " and ".join(f"{n} {{{i}}}" for i, n in enumerate(names))
    ask = f"Use {name} with {pairs}.|Call {name} with {pairs}|Call the tool {name} with {spoken}.|Please run {name}: {pairs}"

    def values(rng):
        return [one_of(rng, NOUNS, new=0.4) if t == STRING else rng.randint(0, 9999) for t in types]

    return Kind(name, f"{name.replace('_', ' ').capitalize()}|A tool", parameters, ask, values, plain_result)


def describe(rng, kind):
    """One variant of a kind: (name, parameters' names, the tool as OpenAI has it)"""
    name, told = rng.choice(kind.names), rng.random() < 0.6
    parameters = [rng.choice(names) for names, _, _ in kind.parameters]
    properties = {}
    for parameter, (_, json_type, about) in zip(parameters, kind.parameters):
        properties[parameter] = {"type": json_type} | ({"description": rng.choice(about)} if told else {})
    shape = {"type": "object", "properties": properties}
    if rng.random() < 0.8:
        shape["required"] = parameters
    function = {"name": name} | ({"description": rng.choice(kind.about)} if rng.random() < 0.92 else {})
    return name, parameters, {"type": "function", "function": function | {"parameters": shape}}


def ask(rng, kind, values):
    return phrase(rng, kind.ask, **{f"v{i}": v for i, v in enumerate(values)})


def tools(rng, other):
    """other(rng) makes a short example of another task: with tools at hand it is still answered directly."""
    n = rng.randint(1, 4)
    kinds = [k if rng.random() < 0.75 else made_up(rng) for k in rng.sample(KINDS, n)]
    variants = [describe(rng, k) for k in kinds]
    if len({v[0] for v in variants}) < n:
        return tools(rng, other)
    listed = [v[2] for v in variants]
    choice = rng.random()
    if choice < 0.12:
        example = other(rng)
        example.task, example.tools = "tools", listed
        return example
    i = rng.randrange(n)
    kind, (name, parameters, _) = kinds[i], variants[i]
    values = kind.values(rng)
    text = ask(rng, kind, values)
    calls = [(name, dict(zip(parameters, values)))]
    if kind.parameters[0] is CITY and choice > 0.88:  # two places at once
        second = kind.values(rng)
        text = ask(rng, kind, [f"{values[0]} and {second[0]}"])
        calls.append((name, dict(zip(parameters, second))))
    messages = [user(text)]
    if kind.result and len(calls) == 1 and choice > 0.6:
        output, answer = kind.result(rng, values)
        messages += [assistant_calls(calls), tool(output)]
        return Example("tools", messages, answer, text + output, tools=listed)
    return Example("tools", messages, call_text(calls), f"{name} {text}", tools=listed)
