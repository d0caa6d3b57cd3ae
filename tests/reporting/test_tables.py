"""Tables as text, and read back."""

import csv
import io
import json
import re
from unicodedata import east_asian_width

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.errors import InputError
from sweep.reporting.summary import KEYS, STATISTICS, summarise
from sweep.reporting.tables.frames import Answer, as_table
from sweep.reporting.tables.layout import FORMATS, layout, text_table
from sweep.reporting.tables.summary_tables import render

PARAMETERS = ["scale", "bits"]


def summary_of(*rows: tuple[str, str, float | None, int | None, list[int]], **published: float) -> pd.DataFrame:
    """A summary from (model, family, scale, bits, correct counts of 1,000); one count is a cell without randomness."""
    trials = pd.DataFrame(
        [
            (model, family, f"c{cell}", scale, bits, seed, 1000, correct / 1000)
            for cell, (model, family, scale, bits, counts) in enumerate(rows)
            for seed, correct in enumerate(counts)
        ],
        columns=["model", "family", "cell", "scale", "bits", "seed", "n_images", "accuracy"],
    ).astype({"scale": "Float64", "bits": "Int64"})
    exact = [f"c{cell}" for cell, row in enumerate(rows) if len(row[-1]) == 1]
    return summarise(trials, PARAMETERS, exact, published or None)


SUMMARY = summary_of(
    ("net.h5", "gaussian", 0.0, None, [985]),
    ("net.h5", "gaussian", 0.1, None, [800, 900, 700, 850]),
    ("net.h5", "fixed_point", None, 32, [985]),
    ("net.h5", "fixed_point", None, 1, [304]),
    c0=0.985,
    c1=0.7018,
)

TEXT = """\
article

gaussian
────────────────────────────────────────────────────────────────────
scale  trials   mean  ± std  95 % interval     new images  published
────────────────────────────────────────────────────────────────────
    0       1  98.50   0.00  98.50 – 98.50  97.54 – 99.09      98.50
  0.1       4  81.25   8.54  63.98 – 91.36  63.98 – 91.36      70.18
────────────────────────────────────────────────────────────────────

fixed_point
────────────────────────────────────────────────────────
bits  trials   mean  ± std  95 % interval     new images
────────────────────────────────────────────────────────
  32       1  98.50   0.00  98.50 – 98.50  97.54 – 99.09
   1       1  30.40   0.00  30.40 – 30.40  27.63 – 33.32
────────────────────────────────────────────────────────

Accuracy in % on 1,000 test images. Left of the trials: what the study sweeps.
Trials: chips, each one draw of all that is random. Mean: over chips. ± std:
standard deviation between chips. 95 % interval: of the mean, for other chips
on these images. New images: at least 95 % for the mean, for other chips on
another test set of this size. Published: as the study gives it. One trial with
standard deviation 0: no randomness, exact for these images."""

NOTE = (
    "Accuracy in % on 1,000 test images. Left of the trials: what the study sweeps. Trials: chips, each one draw of "
    "all that is random. Mean: over chips. ± std: standard deviation between chips. 95 % interval: of the mean, for "
    "other chips on these images. New images: at least 95 % for the mean, for other chips on another test set of this "
    "size.{} One trial with standard deviation 0: no randomness, exact for these images."
)

MARKDOWN = r"""## article

**gaussian**

| scale | trials |  mean | ± std | 95 % interval |    new images | published |
|------:|-------:|------:|------:|--------------:|--------------:|----------:|
|     0 |      1 | 98.50 |  0.00 | 98.50 – 98.50 | 97.54 – 99.09 |     98.50 |
|   0.1 |      4 | 81.25 |  8.54 | 63.98 – 91.36 | 63.98 – 91.36 |     70.18 |

**fixed\_point**

| bits | trials |  mean | ± std | 95 % interval |    new images |
|-----:|-------:|------:|------:|--------------:|--------------:|
|   32 |      1 | 98.50 |  0.00 | 98.50 – 98.50 | 97.54 – 99.09 |
|    1 |      1 | 30.40 |  0.00 | 30.40 – 30.40 | 27.63 – 33.32 |

{}
""".rstrip().format(NOTE.format(" Published: as the study gives it."))

LATEX_TABLE = r"""\begin{table}[htbp]
  \centering
  \caption{article: fixed\_point. NOTE}
  \begin{tabular}{rrrrrr}
    \toprule
    bits & trials & mean & $\pm$ std & 95~\% interval & new images \\
    \midrule
    32 & 1 & 98.50 & 0.00 & 98.50--98.50 & 97.54--99.09 \\
    1 & 1 & 30.40 & 0.00 & 30.40--30.40 & 27.63--33.32 \\
    \bottomrule
  \end{tabular}
\end{table}""".replace("NOTE", NOTE.format("").replace(" %", r"~\%").replace("±", r"$\pm$"))


def test_text() -> None:
    assert render(SUMMARY, PARAMETERS, "text", "article") == TEXT


@pytest.mark.parametrize("terminal", [{}, {"FORCE_COLOR": "1", "COLUMNS": "20"}, {"TERM": "dumb", "NO_COLOR": "1"}])
def test_text_is_plain_wherever_it_goes(terminal: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in terminal.items():
        monkeypatch.setenv(name, value)
    assert render(SUMMARY, PARAMETERS, "text", "article") == TEXT


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/]", ":smile:", "a\\[b]", "http://x", "x" * 300, "noise  of"])
def test_text_shows_names_as_they_are(name: str) -> None:
    _, head, _, row, _ = text_table(("level", name, "n"), [("0.1", name, "7")]).splitlines()
    assert head.split("level  ", 1)[1] == f"{name}  n"
    assert row == f"  0.1  {name}  7"


def test_columns_of_text_stand_below_one_another_whatever_the_script() -> None:
    """By the width of East Asian characters (Unicode Standard Annex 11), two columns of a terminal each."""
    wide = "噪声"
    rows = text_table(("family", "n"), [(wide, "7"), ("abcdefgh", "7")]).splitlines()
    ends = [sum(1 + (east_asian_width(c) in "WF") for c in line) for line in rows]
    assert set(ends) == {11}


def test_rows_alone_have_no_rules() -> None:
    assert text_table((), [("study", "small"), ("folder", "/a b/" + "c" * 200)]).splitlines() == [
        "study   small",
        "folder  /a b/" + "c" * 200,
    ]


def test_markdown() -> None:
    assert render(SUMMARY, PARAMETERS, "markdown", "article") == MARKDOWN


def test_latex() -> None:
    latex = render(SUMMARY, PARAMETERS, "latex", "article")
    assert latex.startswith("% Needs \\usepackage{booktabs}.\n\n\\begin{table}[htbp]\n")
    assert latex.endswith("\n\n" + LATEX_TABLE)
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 2
    assert latex.count("Mean: over chips.") == latex.count(r"\caption") == 2
    assert latex.count("Published: as the study gives it.") == 1


def test_latex_escapes_what_it_would_read_as_commands() -> None:
    name = r"a_b %c & #d $e {f} ~g ^h \i <j> k|"
    latex = render(summary_of((name, name, 0.1, None, [800, 900])), PARAMETERS, "latex", "50 %_x")
    caption = next(line for line in latex.splitlines() if r"\caption" in line)
    escaped = (
        r"a\_b~\%c \& \#d \$e \{f\} \textasciitilde{}g \textasciicircum{}h \textbackslash{}i"
        r" \textless{}j\textgreater{} k\textbar{}"
    )
    assert caption.startswith(rf"  \caption{{50~\%\_x: {escaped}. Accuracy in")


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://x","y")')


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_in_csv_is_a_formula(text: str) -> None:
    summary = summary_of((text, text, -0.1, None, [800, 900])).assign(**{text: text})
    rows = list(csv.DictReader(render(summary, PARAMETERS, "csv").splitlines(keepends=True)))
    for name in ("model", "family", f"'{text}"):
        assert rows[0][name] == f"'{text}"
    assert rows[0]["scale"] == "-0.1", "numbers stay numbers"
    (row,) = json.loads(render(summary, PARAMETERS, "json"))
    assert row["model"] == row["family"] == row[text] == text, "what no spreadsheet opens stays as it is"


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "x\r=1", "x\r\n=1", "\x00=1", "\x1b[2J"])
def test_control_characters_begin_no_cell_of_csv(text: str) -> None:
    written = render(summary_of((text, text, 0.1, None, [800, 900])), PARAMETERS, "csv")
    cells = [cell for row in csv.reader(io.StringIO(written, newline="")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "\t", "\r", "\n"))]
    assert "\x1b" not in written


@pytest.mark.parametrize(("first", "written"), [("[2em]", "{}[2em]"), ("*", "{}*"), ("a[1]*", "a[1]*")])
def test_no_row_of_latex_is_an_option_of_the_one_before(first: str, written: str) -> None:
    frame = pd.DataFrame({"name": ["x", first], "level": [1.0, 2.0]})
    latex = layout([as_table(Answer("a", "title", frame, "note."))], "", "latex")
    assert f"    {written} & 2 \\\\\n" in latex


def test_markdown_escapes_what_would_break_the_table() -> None:
    markdown = render(
        summary_of(("m", r"a|b<c>* &d ~e [f](g) `h \i", 0.1, None, [800, 900])), PARAMETERS, "markdown", "[_]"
    )
    assert markdown.startswith("## \\[\\_]\n\n" + r"**a\|b\<c>\* \&d \~e \[f](g) \`h \\i**")


def test_text_fits_a_terminal_of_80_columns() -> None:
    rows = [("net.h5", "gaussian", 0.123456, bits, [900, 905, 912] * 9000) for bits in (2, 16)]
    text = render(summary_of(*rows, c0=0.5), PARAMETERS, "text", "article")
    assert max(map(len, text.splitlines())) < 80
    assert not re.search(r" $", text, re.MULTILINE)


WIDE = ["standard_deviation_of_weights", "bits_of_the_activations", "layers"]


def wide_summary() -> pd.DataFrame:
    """A grid of three parameters with long names, of two values each, and a mean of its own in every cell."""
    grid = [(0.25, 4, "conv"), (0.25, 4, "fc"), (0.25, 8, "conv"), (0.25, 8, "fc"), (0.5, 4, "conv"), (0.5, 8, "fc")]
    rows = [("m", "f", None, None, [600 + 20 * cell, 600 + 20 * cell]) for cell in range(len(grid))]
    summary = summary_of(*rows)
    for place, (name, values) in enumerate(zip(WIDE, zip(*grid, strict=True), strict=True)):
        summary.insert(3 + place, name, list(values))
    return summary


def test_a_wide_grid_is_split_by_its_first_parameters_and_no_cell_is_lost() -> None:
    short = WIDE[0][:18]
    summary = wide_summary().rename(columns={WIDE[0]: short, WIDE[1]: WIDE[1][:12]})
    text = render(summary, [short, WIDE[1][:12], WIDE[2]], "text")
    assert max(map(len, text.splitlines())) < 80
    captions = re.findall(r"^(f, .+)\n─", text, re.MULTILINE)
    assert captions == [f"f, {short} {value}" for value in (0.25, 0.5)]
    first, second = text.split(captions[1])
    assert re.findall(r"(\d\d\.00)   0\.00", first) == ["60.00", "62.00", "64.00", "66.00"]
    assert re.findall(r"(\d\d\.00)   0\.00", second) == ["68.00", "70.00"]
    assert text.count("Mean: over chips.") == 1


def test_a_grid_is_split_as_often_as_its_width_asks_for() -> None:
    long = WIDE[1] + "_" * 20
    summary = wide_summary().rename(columns={WIDE[1]: long})
    text = render(summary, [WIDE[0], long, WIDE[2]], "text")
    pairs = [(0.25, 4), (0.25, 8), (0.5, 4), (0.5, 8)]
    captions = re.findall(r"^(f, .+)\n─", text, re.MULTILINE)
    assert captions == [f"f, {WIDE[0]} {scale}, {long} {bits}" for scale, bits in pairs]
    assert len(re.findall(r"^ *(?:conv|fc) +2 ", text, re.MULTILINE)) == len(summary)


def test_a_grid_that_fits_is_not_split() -> None:
    short = dict(zip(WIDE, ("a", "b", "c"), strict=True))
    text = render(wide_summary().rename(columns=short), list(short.values()), "text")
    assert re.findall(r"^(f.*)\n─", text, re.MULTILINE) == ["f"]


def test_several_models_stand_in_tables_of_their_own() -> None:
    summary = summary_of(
        ("a.h5", "gaussian", 0.1, None, [800, 900]),
        ("b.h5", "gaussian", 0.1, None, [700, 900]),
        ("a.h5", "uniform", 0.1, None, [600, 900]),
    )
    text = render(summary, PARAMETERS, "text")
    captions = re.findall(r"^(\S+, .+)\n─", text, re.MULTILINE)
    assert captions == ["gaussian, model a.h5", "gaussian, model b.h5", "uniform, model a.h5"]
    assert text.count("Mean: over chips.") == 1


def test_one_random_trial_has_blanks() -> None:
    summary = summary_of(("net.h5", "gaussian", 0.1, None, [800]))
    summary[["std", "mean_low", "mean_high", "std_low", "std_high", "new_low", "new_high"]] = float("nan")
    text = render(summary, PARAMETERS, "text")
    assert "  0.1       1  80.00\n" in text
    assert "a single chip does not show the spread" in " ".join(text.split())


def test_swept_words_and_missing_values_of_a_grid() -> None:
    summary = summary_of(("m", "f", 0.1, 4, [800, 900]), ("m", "f", 0.1, None, [800, 900]))
    summary.insert(5, "layers", ["conv*", "dense"])
    text = render(summary, [*PARAMETERS, "layers"], "text")
    assert "scale  bits  layers  trials" in text
    assert "  0.1     4   conv*       2" in text
    assert "  0.1         dense       2" in text


def test_the_number_of_images_is_named_only_when_there_is_one() -> None:
    summary = SUMMARY.assign(n_images=[1000, 500, 1000, 1000])
    assert "in % on the test images." in render(summary, PARAMETERS, "markdown")


def test_no_trials() -> None:
    for format in ("text", "markdown", "latex"):
        assert render(SUMMARY.iloc[:0], PARAMETERS, format, "article").endswith("\n\nNo trials yet.")
    assert json.loads(render(SUMMARY.iloc[:0], PARAMETERS, "json")) == []


def test_unknown_format_names_the_valid_ones() -> None:
    with pytest.raises(InputError, match="format: 'html' is not one of text, markdown, csv, latex, json"):
        render(SUMMARY, PARAMETERS, "html")


@pytest.mark.parametrize("format", FORMATS)
def test_no_format_ends_with_a_line_feed(format: str) -> None:
    for summary in (SUMMARY, SUMMARY.iloc[:0]):
        rendered = render(summary, PARAMETERS, format, "article")
        assert rendered == rendered.rstrip() != ""


counts = st.lists(st.integers(0, 1000), min_size=1, max_size=6)
scales = st.floats(0, 1e6, allow_subnormal=False)


def number(word: str) -> float | None:
    """As a reader of CSV takes it, by Python's float: pandas' own reader has dropped digits."""
    return float(word) if word else None


@settings(max_examples=40)
@given(st.lists(st.tuples(scales, counts), min_size=1, max_size=5), st.floats(0, 1))
def test_csv_and_json_give_the_summary_back(cells: list[tuple[float, list[int]]], published: float) -> None:
    rows = [("net.h5", 'noise, "quoted" 噪声', scale, None, chips) for scale, chips in cells]
    summary = summary_of(*rows, c0=published)
    types = {name: str(kind) for name, kind in summary.dtypes.items()}
    header, *lines = csv.reader(render(summary, PARAMETERS, "csv").split("\n"))
    words = pd.DataFrame(lines, columns=header, dtype=object)
    from_csv = words.apply(lambda column: column if column.name in KEYS else column.map(number)).astype(types)
    pd.testing.assert_frame_equal(from_csv, summary, check_exact=True)
    from_json = pd.DataFrame(json.loads(render(summary, PARAMETERS, "json")), columns=list(summary.columns))
    pd.testing.assert_frame_equal(from_json.astype(types), summary, check_exact=True)


def test_csv_and_json_hold_fractions_and_mark_what_is_missing() -> None:
    lines = render(SUMMARY, PARAMETERS, "csv", "article").splitlines()
    assert lines[0] == ",".join(["model,family,cell,scale,bits,trials,n_images", *STATISTICS, "published"])
    assert lines[1].startswith("net.h5,gaussian,c0,0.0,,1,1000,0.985,0.0,0.985,")
    assert lines[4].endswith(",0.304,")
    first, *_, last = json.loads(render(SUMMARY, PARAMETERS, "json", "article"))
    assert (first["scale"], first["bits"], first["trials"], first["mean"]) == (0.0, None, 1, 0.985)
    assert (last["scale"], last["bits"], last["published"]) == (None, 1, None)
