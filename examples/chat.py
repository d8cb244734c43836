"""Talk with a language model, which keeps its state from turn to turn.

    python examples/char_lm.py && python examples/chat.py
    python examples/chat.py --model runs/next_word/params.safetensors < lines.txt

The model of char_lm.py (characters) or next_word.py (words) continues each line that
you type, token by token, to the end of a sentence or line, or for --length tokens. The
state keeps the conversation, so that no token is read twice. Lines and conversations
may therefore be longer than the training sequences. After an empty line the model
continues its own text; "/reset" starts again; "/quit", the end of the input or Ctrl-C
ends the program. It then saves conversation.png, which shows how surprising each token
was. It prints the mean surprise of your tokens, with the state kept and with a state
reset at every turn, in bits per character or per word. These models continue text in
the style of their corpus; they do not answer questions. Context makes a line less
surprising only if the line continues it.
"""

import sys

from support import command_line, plots, results, talkers

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from jaxrnn import decode

MODEL = "runs/char_lm/params.safetensors"
TEMPERATURE = 0.7
LENGTH = 200
ENDS = ".?!"  # ends of sentences, except after a number
MARKS = ".,:;?!"  # no space comes before them
QUOTES = "\u2018\u2019\u201c\u201d"  # the font has these, and Latin letters
COLUMNS = 80  # width of the picture; it shows the last rows only
ROWS = 36


def main():
    parser = command_line.make_parser(__doc__, "chat")
    parser.add_argument("--model", default=MODEL, help="parameter file of the model")
    parser.add_argument("--length", type=command_line.positive, default=LENGTH)
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="0: the most probable"
    )
    parser.add_argument("--top-p", type=float, help="probability mass to sample from")
    options = parser.parse_args()
    choose = decode.greedy
    try:
        if options.temperature != 0 or options.top_p is not None:
            choose = decode.sampling(
                temperature=options.temperature, top_p=options.top_p
            )
    except ValueError as error:
        parser.error(f"--{str(error).replace('top_p', 'top-p')}")
    matplotlib.use("Agg")
    talker = talkers.load(options.model, choose, options.seed)
    path = command_line.prepare_out(options.out, "conversation.png")

    turns = []  # lists of (token, bits, whether you typed it)
    try:
        converse(talker, lines(), options.length, turns)
    except KeyboardInterrupt:
        print()
    typed = [[(s, bits) for s, bits, own in turn if own] for turn in turns]
    if not any(typed):
        print("nothing was typed that the model knows: no picture, no table")
        return
    draw(path, turns, " " if talker.unknown else "")
    print(f"picture: {path}")
    kept = [bits for turn in typed for _, bits in turn]
    reset = [
        bits for turn in typed for bits in talkers.afresh(talker, [s for s, _ in turn])
    ]
    rows = {"jaxrnn, state kept": kept, "state reset at every turn": reset}
    means = {name: float(np.mean(bits)) for name, bits in rows.items()}
    results.print_table("mean bits of what you typed", means)


def lines():
    """Yield lines from the keyboard or a file."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            yield input(prompt)
        except EOFError:
            return


def converse(talker, typed, length, turns):
    """Answer each line; append each turn to ``turns``."""
    place = talkers.start(talker)
    for line in typed:
        if line.strip() in ("/quit", "/reset"):
            if line.strip() == "/quit":
                return
            place = talkers.start(talker, place.count)
            continue
        symbols, others = talkers.split(talker, line)
        if others:
            print(others)
        if line and not symbols:
            continue
        if place.last != talker.gap:
            place, _ = talkers.read(talker, place, talker.gap)
        turns.append([])
        for symbol in symbols:
            place, bits = talkers.read(talker, place, symbol)
            turns[-1].append((symbol, bits, True))
        for number in range(length):
            symbol, before = talker.symbols[place.drawn], place.last
            place, bits = talkers.read(talker, place, symbol)
            turns[-1].append((symbol, bits, False))
            if symbol == "\n":
                break
            space = " " if talker.unknown and number and symbol not in MARKS else ""
            print(space + symbol, end="", flush=True)
            if symbol in ENDS and not before[-1:].isdigit():
                break
        print(flush=True)


def draw(path, turns, gap):
    """Draw the conversation line by line; surprising tokens are dark."""
    rows, starts = [], {}
    for number, turn in enumerate(turns, 1):
        starts[len(rows)] = number
        cells = [(c, bits, own) for s, bits, own in turn for c in s + gap]
        rows += [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    first = max(len(rows) - ROWS, 0)
    grid = np.full((len(rows) - first, COLUMNS), np.nan)
    figure, axis = plt.subplots(figsize=(11, 1.5 + 0.22 * len(grid)))
    for y, row in enumerate(rows[first:]):
        for x, (character, bits, own) in enumerate(row):
            grid[y, x] = bits
            drawn = character < "\u0250" or character in QUOTES
            shown = character if drawn and character.isprintable() else "\u00b7"
            style = {"color": "mediumblue", "weight": "bold"} if own else {}
            axis.text(
                *(x, y, shown),
                ha="center",
                va="center",
                family="monospace",
                fontsize=9,
                parse_math=False,
                **style,
            )
    image = axis.imshow(grid, aspect="auto", cmap="Oranges", vmin=0, alpha=0.7)
    figure.colorbar(image, label="surprise in bits", pad=0.01)
    ticks = {row - first: turn for row, turn in starts.items() if row >= first}
    axis.set_yticks(list(ticks), ticks.values())
    axis.set(xlabel="place in the line", ylabel="turn")
    axis.set_title("typed: bold and blue; written by the model: black")
    plots.save(figure, path, dpi=110)


if __name__ == "__main__":
    main()
