"""The pages that are written from the code are those of this code; links and commands in the others lead somewhere."""

import re
import sys

import pytest


@pytest.fixture(scope="module")
def generate(repo):
    sys.path.insert(0, str(repo / "docs"))
    import generate

    yield generate
    sys.path.remove(str(repo / "docs"))


def test_reference_pages_are_those_of_this_code(repo, generate):
    for name, content in generate.pages().items():
        assert (repo / "docs" / name).read_text(encoding="utf-8") == content, f"docs/{name} is stale: run `make docs`"


def test_every_script_with_settings_has_a_section(generate, repo):
    page = (repo / "docs" / "configuration.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## `(.+)`$", page, re.M)
    tops = [path for folder in generate.FOLDERS for path in (repo / folder).glob("*.py")]
    assert sorted(sections) == sorted(str(path.relative_to(repo)) for path in tops)


def pages(repo):
    return [*repo.glob("*.md"), *(repo / "docs").glob("*.md"), repo / "datasets" / "README.md"]


def anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_between_pages_lead_somewhere(repo):
    for page in pages(repo):
        for target in re.findall(r"\]\((?!https?://)([^)#]*(?:#[^)]*)?)\)", page.read_text(encoding="utf-8")):
            name, _, fragment = target.partition("#")
            linked = page.parent / name if name else page
            assert linked.exists(), f"{page.name}: {target}"
            if fragment:
                headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
                assert fragment in map(anchor, headings), f"{page.name}: {target}"


def test_scripts_that_the_pages_name_are_there(repo):
    for page in pages(repo):
        if page.name == "CHANGELOG.md":
            continue
        named = re.findall(
            r"\b((?:data_preparation|training_pipeline|docker|benchmarks|tests)/[\w/]+\.(?:py|sh|md|yaml))",
            page.read_text(encoding="utf-8"),
        )
        assert not [name for name in named if not (repo / name).exists()], page.name


def test_commands_set_variables_that_the_scripts_know(repo, generate):
    """`NAME=value ... python folder/script.py`, continued lines and exports included."""
    known = {str(path.relative_to(repo)): generate.settings_of(path) for path in generate.scripts()}
    checked = 0
    for page in pages(repo):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for before, script in re.findall(r"^[ `]*((?:[A-Z_]+=\S+ +)+)python3? (\S+\.py)", text, re.M):
            if script in known:
                unknown = {name for name in re.findall(r"([A-Z_]+)=", before)} - {
                    name.upper() for name in known[script]
                }
                assert not unknown, f"{page.name}: {script}"
                checked += 1
    assert checked > 10


def test_the_readme_is_for_one_sitting(repo):
    assert len((repo / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
