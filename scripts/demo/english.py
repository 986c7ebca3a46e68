"""Everyday English sentences for the unusual speakers: commands to a house, at the doctor's, plans, questions, reading.

sentences = generate(270, seed=3)        # 270 different ones, lower case, no punctuation, 4 to 9 words
"""

from __future__ import annotations

import random

MIN_WORDS, MAX_WORDS, MAX_LETTERS = 4, 9, 46

FAMILY = "mother|father|sister|brother|daughter|son|neighbour|doctor|grandmother|teacher"
ROOM = "kitchen|bedroom|bathroom|living room|garden|hall|garage"
TIME = "tomorrow|tonight|this evening|on monday|on friday|after lunch|before dinner|next week|at seven|in the morning"
NUMBER = "two|three|four|five|six|seven|ten|twelve|fifteen|twenty"
ITEM = "bread|milk|apples|rice|eggs|butter|cheese|tea|soap|potatoes|fish|oranges"
PLACE = "the station|the library|the hospital|the market|the school|the park|the river|the bakery|town"
BODY = "left knee|right shoulder|back|head|throat|left hand|stomach|neck"

# A list of alternatives stands in braces; [NAME] is one of the lists above.
PATTERNS = (
    "{turn on|turn off} the {light|lamp|heating|fan} in the [ROOM]",
    "{please |}set the {heating|oven} to [NUMBER] degrees",
    "{open|close} the {curtains|window|blinds} in the [ROOM]{ please|}",
    "{set|start|stop} a timer for [NUMBER] minutes{ please|}",
    "wake me up at {six|seven|half past six|eight} [WHEN]",
    "{play|stop} the {music|radio|news} in the [ROOM]",
    "call my [FAMILY] [TIME]",
    "{send|read} a message to my [FAMILY]",
    "add [ITEM] and [ITEM] to the shopping list",
    "remind me to {buy|bring|order} [ITEM] [TIME]",
    "what is the weather like {in town|today|tomorrow|outside}",
    "will it {rain|snow|be cold} [TIME]",
    "take [NUMBER] tablets {with water|after breakfast|before bed}",
    "my [BODY] hurts {when i walk|in the morning|at night|a little today}",
    "i need a new {pair of glasses|prescription|appointment} [TIME]",
    "could you bring me {some water|my coat|my shoes|the phone|a chair} please",
    "how do i get to [PLACE] {from here|by bus}",
    "the {train|bus} to [PLACE] leaves at {noon|six|ten|half past four}",
    "we walked {slowly|together|all the way} to [PLACE]",
    "i would like {a cup of|some} {tea|coffee|soup|water} {please|with lemon|and some bread}",
    "there are [NUMBER] {books|letters|cups|chairs} on the {table|shelf|floor}",
    "my [FAMILY] {lives|works} near [PLACE]",
    "her [FAMILY] {bought|sold|cleaned} the {old|red|small|blue} {car|house|boat|chair}",
    "the {old man|young girl|tall woman|little boy} {sat|waited|slept} {by the window|under the tree|near the fire}",
    "a {cold|warm|gentle|strong} wind blew {over the hills|from the sea|through the trees}",
    "the {dog|cat|horse|bird} {ran|looked|went} {across the road|behind the house|into the garden}",
    "where did you put {the keys|my glasses|the yellow cup|that letter}",
    "we have to {wash|paint|move|fix} the {table|door|fence|windows} [TIME]",
    "the {soup|fish|coffee|bread} is {too hot|still warm|very good|nearly ready}",
    "they {never|often|always} {talk|think|laugh} about the {war|weather|summer|children}",
    "[NUMBER] people {came|went} to the {party|meeting|concert} [LAST]",
    "thank you for {the flowers|your letter|the lovely dinner|helping my [FAMILY]}",
)
LISTS = {
    "FAMILY": FAMILY,
    "ROOM": ROOM,
    "TIME": TIME,
    "NUMBER": NUMBER,
    "ITEM": ITEM,
    "PLACE": PLACE,
    "BODY": BODY,
    "WHEN": "tomorrow|on sunday|every day",
    "LAST": "last night|last week|yesterday|on saturday",
}


def fill(pattern: str, rng: random.Random) -> str:
    """One sentence of a pattern: every {a|b} and [NAME] replaced by one of its alternatives."""
    while "{" in pattern:
        before, _, rest = pattern.partition("{")
        choices, _, after = rest.partition("}")
        pattern = before + rng.choice(choices.split("|")) + after
    while "[" in pattern:
        before, _, rest = pattern.partition("[")
        name, _, after = rest.partition("]")
        pattern = before + rng.choice(LISTS[name].split("|")) + after
    return " ".join(pattern.split())


def generate(count: int, *, seed: int) -> list[str]:
    """`count` different sentences; the same seed gives the same list. Patterns take turns: none is rare.

    Raises: ValueError for more sentences than the patterns give.
    """
    rng = random.Random(seed)
    found: dict[str, None] = {}
    for _ in range(100 + count):
        for pattern in rng.sample(PATTERNS, len(PATTERNS)):
            sentence = fill(pattern, rng)
            words = sentence.split()
            repeated = any(words.count(word) > 1 for word in words if len(word) > 3)
            if MIN_WORDS <= len(words) <= MAX_WORDS and len(sentence) <= MAX_LETTERS and not repeated:
                found[sentence] = None
        if len(found) >= count:
            return list(found)[:count]
    raise ValueError(f"the patterns gave {len(found)} different sentences and {count} were asked for; ask for fewer.")
