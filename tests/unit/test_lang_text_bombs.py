"""Hostile texts for the parsers and converters of the library: each ends typed within its fuel and 64 MB."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bombs import MAX_PEAK_BYTES, explode

BOMBS: list[tuple[str, str]] = [
    ("reduce(re.split, [_.text] * 100)", "too_large"),
    ('base64.b64encode(base64.b64encode(base64.b64encode(base64.b64encode("a" * 2000000))))', "fuel"),
    ('[base64.b64encode(x) for x in ["a" * 1000000] * 1000]', "fuel"),
    ("[re.sub('(a)', '\\\\1' * 100, _.text) for x in range(10)]", "fuel"),
    ("dump_yaml([[[_.text] * 100] * 100] * 100)", "too_large"),
    ("html_to_markdown(markdown_to_html('- ' * 15 + 'a\\n' * 20000))", "fuel"),
    ('load_yaml("[" * 100000)', "too_deep"),
    ('load_yaml("- " * 100000)', "too_deep"),
    (
        'load_yaml("k0: &k0 [x, x]\\n"'
        ' + "".join([f"k{i + 1}: &k{i + 1} [*k{i}, *k{i}, *k{i}]\\n" for i in range(30)]))',
        "fuel",
    ),
    ('load_yaml("- a\\n" * 1000000)', "fuel"),
    ('load_yaml("{" * 20000)', "value"),
    ('load_yaml("[" + "[]," * 400000 + "]")', "fuel"),
    ('load_yaml("? " * 50000)', "value"),
    ('load_yaml("!!python/object/apply:os.system [ls]")', "value"),
    ('load_yaml("!!python/name:os.system")', "value"),
    ('load_yaml("&a [*a]")', "value"),
    ('load_yaml("\\"" + "\\\\x41" * 400000 + "\\"")', "fuel"),
    ('load_yaml("a" * 1500000)', "fuel"),
    ('load_yaml("|\\n" + " x\\n" * 300000)', "ok"),
    ('load_yaml("%YAML 1.1\\n" * 100000)', "value"),
    ('load_yaml("- &a" + "1" * 10 + " x\\n" * 100000)', "ok"),
    ('load_yaml("# c\\n" * 400000)', "fuel"),
    ('load_yaml("x: " + "9" * 100000)', "value"),
    ('load_yaml("0x" + "f" * 100000)', "value"),
    ('load_yaml("1" + "0" * 1100 + ".0e9999")', "value"),
    ("load_yaml(_.text)", "ok"),
    ('[load_yaml("a: [1, 2]") for x in range(100000)]', "fuel"),
    ("dump_yaml([[[0] * 1000] * 1000] * 1000)", "fuel"),
    ('dump_yaml({"a": ("\\n" + "x") * 100000})', "ok"),
    ("[dump_yaml(_.deep) for x in range(10000)]", "fuel"),
    ('dump_yaml("a" * 10000000)', "fuel"),
    ("dump_yaml(_.list + _.list)", "fuel"),
    ('dump_yaml([[[[["x\\n" * 100000 + "y"]]]]])', "fuel"),
    ('csv.reader("\\n" * 1500000)', "fuel"),
    ('csv.reader("," * 1500000)', "fuel"),
    ('csv.reader("\\"" * 500000)', "value"),
    ('csv.reader("a,b\\n" * 300000)', "fuel"),
    ('csv.reader("x" * 200000)', "value"),
    ('csv.DictReader("a,b,c\\n" + "1\\n" * 300000)', "fuel"),
    ('csv.DictReader(",".join([str(x) for x in range(3000)]) + "\\n" + "1\\n" * 30000)', "fuel"),
    ("csv.dumps([[0] * 1000] * 1000)", "fuel"),
    ('csv.dumps(["a" * 1000000] * 1000)', "type"),
    ('csv.dumps([["a" * 1000000] * 1000])', "fuel"),
    ("csv.dumps([_.list] * 100)", "fuel"),
    ('csv.dumps([[ "\\"" * 300000]] * 5)', "ok"),
    ("csv.dumps([{str(i): 1 for i in range(3000)}] * 3000)", "fuel"),
    ('csv.reader("a\\r" * 500000)', "fuel"),
    ("[base64.b64encode(_.text) for x in range(1000)]", "fuel"),
    ('[base64.b64decode("QUJD" * 100000) for x in range(1000)]', "fuel"),
    ('base64.b64decode("A" * 1000001)', "value"),
    ('base64.b64decode(" A" * 500000)', "fuel"),
    ('base64.b64encode("\\u4e00" * 1000000)', "ok"),
    ('urllib.parse.quote("\\u4e00" * 1000000)', "fuel"),
    ("[urllib.parse.quote(_.text) for x in range(100)]", "fuel"),
    ('urllib.parse.unquote("%41" * 300000)', "fuel"),
    ('urllib.parse.unquote("%41a\\u00e9" * 300000)', "fuel"),
    ('urllib.parse.unquote("%" + "a\\u00e9" * 300000)', "fuel"),
    ('urllib.parse.parse_qs("a=1&" * 300000)', "fuel"),
    ('urllib.parse.parse_qsl("&" * 1000000)', "fuel"),
    ("urllib.parse.urlencode({str(x): _.text for x in range(10)})", "fuel"),
    ('urllib.parse.urlencode([["a", [1] * 100000]], doseq=true)', "fuel"),
    ('urllib.parse.urlparse("http://" + "a" * 100000)', "too_large"),
    ('urllib.parse.urlparse("http://[" + "a" * 1000)', "value"),
    ('urllib.parse.urljoin("http://a/" + "b/" * 8000, "../" * 5000)', "ok"),
    ('[urllib.parse.urljoin("http://a/" + "b/" * 8000, "../" * 5000) for x in range(1000)]', "fuel"),
    ('[urllib.parse.urlparse("http://a.b/" + str(x)) for x in range(100000)]', "fuel"),
    ('re.findall("a", _.text)', "fuel"),
    ('re.findall("", _.text)', "fuel"),
    ('re.sub("a", "b" * 10000, _.text)', "fuel"),
    ('re.sub("", "b" * 1000, "x" * 10000)', "fuel"),
    ('re.split("a", _.text)', "fuel"),
    ('re.split("(a)(b)", _.text)', "fuel"),
    ('[m for m in re.finditer("(a)|(b)", _.text)]', "fuel"),
    ('re.findall("x*y|x", "x" * 20000)', "fuel"),
    ('re.findall("(a|b)*a(a|b){20}c|a", "ab" * 10000)', "fuel"),
    ('re.findall("((((((((((a))))))))))", "a" * 100000)', "fuel"),
    ('re.sub("(a+)+", "\\\\1\\\\1", "a" * 1000000)', "ok"),
    ('re.sub("a", "\\\\1" , "aaa")', "no_key"),
    ('re.sub("(a)", "\\\\1" * 4000 , "a" * 5000)', "fuel"),
    ('re.sub("a", "\\\\", "a")', "value"),
    ('[re.search("a{" + str(i) + "}(a|b)*a(a|b){8}", "ab" * 1000) for i in range(1000)]', "fuel"),
    ('re.escape("." * 1000000)', "fuel"),
    ('re.fullmatch("(a*)*b", "a" * 1000000)', "ok"),
    ('re.match("(.*)(.*)(.*)(.*)(.*)x", "a" * 100000)', "ok"),
    ('re.search("a", "b", flags=4)', "value"),
    ('chunk_doc("a " * 1000000)', "fuel"),
    ('chunk_doc("a" * 1000000, max_chars=50, overlap=25)', "fuel"),
    ('chunk_doc("a.\\n\\n" * 300000, max_chars=50)', "fuel"),
    ('chunk_doc("x", max_chars=0)', "value"),
    ('chunk_doc(" " * 1000000)', "ok"),
    ('chunk_doc("\\n" * 1000000)', "fuel"),
    ('chunk_doc("." * 800000, max_chars=50)', "ok"),
    ('chunk_doc(". " * 400000, max_chars=50)', "fuel"),
    ('chunk_doc("\\n \\n" * 300000, max_chars=50)', "fuel"),
    ('[chunk_doc("\\t" * 10000, max_chars=100) for x in range(100)]', "ok"),
    ('humanize_text_alpha("\\u2014" * 1000000)', "fuel"),
    ('humanize_text_alpha("a" + " " * 700000)', "ok"),
    ('humanize_text_alpha("a\\u2014" * 300000)', "ok"),
    ('humanize_text_alpha(" \\u2014" * 300000)', "ok"),
    ('humanize_text_alpha("a" + " " * 350000 + "\\u2014" + " " * 350000)', "fuel"),
    ('humanize_text_alpha("a" + " " * 350000 + "\\u2014" + "b")', "ok"),
    ('string.capwords("a " * 500000)', "fuel"),
    ('markdown_to_html(">" * 100000)', "fuel"),
    ('markdown_to_html("> " * 50000)', "fuel"),
    ('markdown_to_html("- " * 50000)', "ok"),
    ('markdown_to_html("* " * 50000 + "a")', "fuel"),
    ('markdown_to_html("[" * 100000)', "fuel"),
    ('markdown_to_html("[](" * 100000)', "fuel"),
    ('markdown_to_html("[a](" + "b" * 1990 + "\\n" * 1)', "ok"),
    ('markdown_to_html(("[a](" + "b" * 1990 + " ") * 100)', "fuel"),
    ('markdown_to_html("`" * 100000)', "ok"),
    ('markdown_to_html(" ".join(["`" * i for i in range(1, 440)]))', "ok"),
    ('markdown_to_html("*a" * 100000)', "fuel"),
    ('markdown_to_html("*a*" * 100000)', "fuel"),
    ('markdown_to_html("***a" * 50000)', "fuel"),
    ('markdown_to_html("_" * 300000)', "ok"),
    ('markdown_to_html("|a" * 20000 + "\\n" + "|-" * 20000 + "\\n" + "|\\n" * 20000)', "fuel"),
    ('markdown_to_html("a|b\\n-|-\\n" + "|\\n" * 100000)', "fuel"),
    ('markdown_to_html("\\\\" * 300000)', "fuel"),
    ('markdown_to_html(" " * 1000000)', "fuel"),
    ('markdown_to_html("a" + " " * 300000 + "b")', "fuel"),
    ('markdown_to_html("a  \\n" * 50000)', "fuel"),
    ('markdown_to_html("#" * 100000)', "ok"),
    ('markdown_to_html("# " + "#" * 300000)', "ok"),
    ('markdown_to_html("```\\n" * 50000)', "ok"),
    ('markdown_to_html("1. a\\n" * 30000)', "fuel"),
    ('markdown_to_html("- a\\n\\n" * 30000)', "fuel"),
    ('markdown_to_html("\\n".join([" " * (2*i) + "- a" for i in range(200)]))', "fuel"),
    ('markdown_to_html("\\n".join([" " * (2*(i % 15)) + "- a" for i in range(3000)]))', "fuel"),
    ('markdown_to_html("<http://" * 30000)', "fuel"),
    ('markdown_to_html("<" * 300000)', "fuel"),
    ('markdown_to_html("- - - -" * 20000)', "ok"),
    ('markdown_to_html("---" * 50000 + "x")', "ok"),
    ('markdown_to_html("~" * 100000)', "ok"),
    ('markdown_to_html("[[a]" * 30000)', "fuel"),
    ('markdown_to_html("![" * 50000 + "](x)" * 50000)', "fuel"),
    ('markdown_to_html("&" * 350000)', "fuel"),
    ('markdown_to_html("a\\n" * 100000)', "fuel"),
    ('markdown_to_html("*a **b " * 30000)', "fuel"),
    ('markdown_to_html("|" * 100000 + "\\n|-|")', "fuel"),
    ('markdown_to_html("a|b\\n" + "-|" * 50000)', "ok"),
    ('markdown_to_html("a|b\\n" + "- " * 50000)', "ok"),
    ('html_to_markdown("<" * 1000000)', "fuel"),
    ('html_to_markdown("<a " * 100000)', "fuel"),
    ('html_to_markdown("<a \\"" * 100000)', "fuel"),
    ('html_to_markdown("<!" * 200000)', "fuel"),
    ('html_to_markdown("<!--" * 100000)', "fuel"),
    ('html_to_markdown("<b>" * 100000)', "fuel"),
    ('html_to_markdown("<b>x" * 50000)', "fuel"),
    ('html_to_markdown("<b>x</b>" * 30000)', "fuel"),
    ('html_to_markdown("<ul>" * 50000 + "x")', "fuel"),
    ('html_to_markdown("<ul><li>x" * 20000)', "fuel"),
    ('html_to_markdown("<ul><li>x" * 20000 + "</ul>" * 20000)', "fuel"),
    ('html_to_markdown("<blockquote><p>x" * 20000)', "fuel"),
    ('html_to_markdown("<table>" * 50000)', "fuel"),
    ('html_to_markdown("<table>" + "<tr>" + "<td>x" * 20000 + "<tr><td>x" * 20000)', "fuel"),
    ('html_to_markdown("<table><tr><td>" + "x</td>" * 60000)', "fuel"),
    ('html_to_markdown("<p>x" * 50000)', "fuel"),
    ('html_to_markdown("&amp;" * 80000)', "fuel"),
    ('html_to_markdown("&" * 400000)', "fuel"),
    ('html_to_markdown("&#" + "9" * 10000 + ";")', "ok"),
    ('html_to_markdown("<script>" * 50000)', "fuel"),
    ('html_to_markdown("<script></script>" * 20000)', "fuel"),
    ('html_to_markdown("<a href=" + "x" * 60000 + ">y</a>")', "ok"),
    ('html_to_markdown(("<a x=" + "y" * 60000) * 5)', "fuel"),
    ('html_to_markdown("<a " + "b " * 30000 + ">c</a>")', "ok"),
    ('html_to_markdown("<a " + " " * 60000 + ">c</a>")', "ok"),
    ('html_to_markdown("<pre>" + "`" * 300000)', "fuel"),
    ('html_to_markdown("<br>" * 80000)', "fuel"),
    ('html_to_markdown("a" + "<br> " * 60000)', "fuel"),
    ('html_to_markdown("<i><b>" * 30000 + "x" + "</i></b>" * 30000)', "fuel"),
    ('html_to_markdown("x <i>" * 30000)', "fuel"),
    ('html_to_markdown("<a href=x>" * 30000 + "y")', "fuel"),
    ('html_to_markdown("<img src=a>" * 30000)', "fuel"),
    ('html_to_markdown("_*`[" * 100000)', "fuel"),
    ('html_to_markdown(" " * 400000 + "x")', "fuel"),
    ('html_to_markdown("<b>y<p>" * 20000)', "fuel"),
    ('html_to_markdown("<code>" + "`a" * 100000 + "</code>")', "fuel"),
    ('html_to_markdown("<h1>" * 50000 + "x")', "fuel"),
    ('html_to_markdown("a<" * 100000)', "fuel"),
    ('html_to_markdown("a</" * 100000)', "fuel"),
    ('html_to_markdown("<?" * 100000)', "fuel"),
    ('html_to_markdown("<a" * 100000)', "fuel"),
    ('html_to_markdown("<ol start=" + "9" * 1000 + "><li>x</ol>")', "ok"),
    ("map(reduce, [max], [[1, 2]])", "ok"),
    ('extract_json("[" * 90 + "1" + "," * 100000)', "fuel"),
    ('extract_json("{" * 100000)', "fuel"),
    ('extract_json("```" * 100000)', "value"),
    ('json.loads("[" * 100000)', "too_deep"),
    ('yaml.safe_load("*x")', "value"),
    ("json.dumps([[[0] * 1000] * 1000] * 1000)", "fuel"),
    ('dump_json("\\u0001" * 10000000)', "fuel"),
]


@pytest.mark.parametrize(("source", "code"), BOMBS, ids=lambda text: text[:50])
def test_hostile_text_ends_within_its_fuel_and_memory(source: str, code: str):
    ended = explode(source)
    assert ended.code == code
    assert ended.peak_bytes < MAX_PEAK_BYTES


ADDRESS_SPACE_BYTES = 700 * 1024 * 1024
RUN_ALL = f"""
import resource
from tests.unit import test_lang_number_bombs, test_lang_text_bombs
from tests.support.bombs import outcome
resource.setrlimit(resource.RLIMIT_AS, ({ADDRESS_SPACE_BYTES}, {ADDRESS_SPACE_BYTES}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bombs = [*test_lang_number_bombs.BOMBS, *test_lang_text_bombs.BOMBS]
print([source for source, code in bombs if outcome(source)[0] != code])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.timeout(300)
def test_all_bombs_one_after_another_leave_a_small_process_small():
    # the memory of regular expressions and of the YAML parser is not Python's, so it is seen here only
    # and the limit of time is there for a bomb that hangs; all together take some seconds
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL], cwd=root, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wrong, grown_kib = done.stdout.splitlines()
    assert wrong == "[]"
    assert int(grown_kib) < 100 * 1024
