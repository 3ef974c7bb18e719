"""The generated corpus for benchmarks."""

from ragline.corpus.near_duplicates import jaccard, shingles
from tools.make_corpus import documents


def test_a_larger_corpus_begins_with_the_smaller_one():
    assert list(documents(30, 400, 7)) == list(documents(60, 400, 7))[:30]
    assert list(documents(3, 400, 8)) != list(documents(3, 400, 7))


def test_size_copies_and_near_copies_are_as_told():
    texts = [document["text"] for document in documents(2000, 600, 7)]
    # lengths are uniform between half and one and a half: the mean of 2,000 has a standard deviation of 4
    assert 550 < sum(map(len, texts)) / len(texts) < 650
    # 20 and 40 expected, standard deviations 4.4 and 6.3; three of them
    assert 7 <= len(texts) - len(set(texts)) <= 33
    beginnings: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        beginnings.setdefault(text.split("\n")[0], []).append(text)
    near = [jaccard(shingles(one[0]), shingles(one[1])) for one in beginnings.values() if len(one) == 2]
    assert 15 <= sum(similarity > 0.7 for similarity in near) <= 60


def test_a_document_looks_like_one():
    (document,) = documents(1, 2000, 7)
    assert document.keys() == {"id", "title", "text", "format"}
    assert document["text"].startswith(f"# {document['title']}\n\n")
    assert "\n## " in document["text"]
