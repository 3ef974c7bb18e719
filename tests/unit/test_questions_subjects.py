from ragline.questions.subjects import subjects
from ragline.types import Document


def document(name: str, text: str = "Return a row.", cluster: str = "", aliases: tuple[str, ...] = ()) -> Document:
    return Document(name, name, name, text, "numpydoc", aliases, cluster or name, "train")


def test_the_shortest_name_that_means_one_cluster_comes_first():
    found = subjects(
        [
            document("lib.Table.merge"),
            document("lib.merge", cluster="lib.Table.merge"),
            document("lib.Table.to_csv"),
            document("lib.Row.to_csv", aliases=("lib.Cell.to_json",)),
            document("lib.api.typing.Window.to_json"),
        ]
    )
    # merge is two documents of one cluster; to_csv two clusters; to_json is an alias elsewhere
    assert found["lib.merge"].calls == ("merge", "lib.merge")
    assert found["lib.Table.to_csv"].calls == ("Table.to_csv", "lib.Table.to_csv")
    # the full name is left out where it is long
    assert found["lib.api.typing.Window.to_json"].calls == ("Window.to_json",)


def test_a_bare_word_of_a_method_says_too_little():
    found = subjects([document("lib.Table.line"), document("lib.cut")])
    assert found["lib.Table.line"].calls[0] == "Table.line"
    assert found["lib.cut"].calls[0] == "cut"


def test_owner_is_the_innermost_class():
    found = subjects([document("lib.Series.str.upper"), document("lib.read_csv"), document("lib.Table")])
    assert [found[name].owner for name in ("lib.Series.str.upper", "lib.read_csv", "lib.Table")] == ["Series", "", ""]


def test_summaries_and_activities_are_own_only_in_one_cluster():
    found = subjects(
        [
            document("a.x", "Read a table from a file.\n\nMore."),
            document("a.y", "Read a table by name."),
            document("a.z", "Convert text to numbers. More."),
            document("a.t", "Returns text to numbers."),
        ]
    )
    assert found["a.z"].activity == "converting text to numbers"
    assert found["a.x"].activity == ""  # 'reading a table' is what a.y is for, too
    assert found["a.x"].own_summary
    twins = subjects([document("a.p", "Return the size."), document("a.q", "Get the size.")])
    assert not twins["a.p"].own_summary  # 'return' and 'get' say nothing


def test_the_summary_is_not_a_signature():
    doc = document("a.x", "x(a, b=1) -> int\n\nCount the rows. More.")
    summary = subjects([doc])["a.x"].summary
    assert summary is not None
    assert doc.text[summary.start : summary.end] == "Count the rows."
    assert subjects([document("a.e", " ")])["a.e"].summary is None


def test_neither_a_stub_of_c_code_nor_a_list_of_parameters_is_a_summary():
    for opening in ("x(size, /)\n--", "where : array of rows\n    More of it."):
        assert subjects([document("a.x", opening)])["a.x"].summary is None


def test_a_name_above_others_is_a_namespace_and_asked_in_full():
    found = subjects(
        [document("lib.errors"), document("lib.errors.KeyError"), document("lib.Table"), document("lib.cut")]
    )
    assert [found[name].namespace for name in ("lib.errors", "lib.Table", "lib.cut")] == [True, False, False]
    assert found["lib.errors"].calls == ("lib.errors",)


def test_an_activity_is_cut_where_it_still_reads():
    texts = {
        "a.x": "Attach or detach a time zone.",
        "a.y": "Call function producing one row.",
        "a.z": "Highlight values defined by a share.",
    }
    found = subjects([document(name, text) for name, text in texts.items()])
    assert {found[name].activity for name in texts} == {""}


def test_a_title_is_a_name_of_its_own():
    doc = Document("guide.md", "guide.md", "Returns and refunds", "Text.", "markdown", (), "guide.md", "train")
    found = subjects([doc])["guide.md"]
    assert found.calls == ("Returns and refunds",)
    assert found.titled
