"""A stand-in for FlashRAG's package: what of it a peer's process uses, with its interfaces.

One kind answers question after question, numbers its steps from 1 and asks for one search and
one text at a time; the other takes a step of all questions at once, numbers from 0, and stops at
a full stop. Neither sorts passages anew, so that its prompts can be compared with ours.
"""

from pathlib import Path

_DATASET = """
class Item:
    def __init__(self, item_dict):
        self.question = item_dict["question"]
        self.output = {}

class Dataset:
    def __init__(self, config=None, data=None):
        print("Load data from provided data")
        self.data = data
"""
_PROMPT = """
class PromptTemplate:
    def __init__(self, config, system_prompt="", user_prompt="", reference_template=None,
                 enable_chat=True):
        assert config["framework"] == "vllm" and config["of_another_version"] is None
        assert config["generator_max_input_len"] > 0 and "metrics" in config
        self.user_prompt, self.reference_template = user_prompt, reference_template
        assert not enable_chat and system_prompt == ""

    def get_string(self, question=None, retrieval_result=None, previous_gen=None):
        shown = ""
        for document in retrieval_result:
            title, text = document["contents"].split("\\n")
            shown += self.reference_template.format(title=title, text=text)
        return self.user_prompt.format(reference=shown, question=question) + (previous_gen or "")
"""
_PIPELINE = """
import ABSENT
MARKER = "So the answer is:"

class IRCOTPipeline:
    def __init__(self, config, prompt_template=None, max_iter=2, retriever=None, generator=None):
        self.template, self.max_iter = prompt_template, max_iter
        self.retriever, self.generator = retriever, generator

    def run(self, dataset, do_eval=True):
        assert not do_eval
        self.RUN(dataset.data)
        for item in dataset.data:
            text = " ".join(item.thoughts)
            item.output["raw_pred"] = text
            item.output["pred"] = text.split(MARKER)[1].strip() if MARKER in text else text

    def prompt(self, item):
        documents = list(item.documents.values())
        return self.template.get_string(
            question=item.question, retrieval_result=documents,
            previous_gen=" ".join(item.thoughts))

    def note(self, item, number, prompt, thought):
        item.thoughts.append(thought)
        item.output[f"intermediate_output_iter{number}"] = {
            "input_prompt": prompt, "new_thought": thought}

    def one_by_one(self, items):
        for item in items:
            item.thoughts, query = [], item.question
            item.documents = {}
            for number in range(1, self.max_iter + 1):
                documents, scores = self.retriever.search(query, return_score=True)
                assert len(documents) == len(scores)
                item.documents |= {d["id"]: d for d in documents if d["id"] not in item.documents}
                prompt = self.prompt(item)
                query = self.generator.generate(prompt)[0]
                self.note(item, number, prompt, query)
                if MARKER in query:
                    break
"""
_MANY = """
    def run_batch(self, items):
        for item in items:
            item.thoughts, item.documents, item.query = [], {}, item.question
        active = list(items)
        for number in range(self.max_iter):
            found, scores = self.retriever.batch_search(
                [item.query for item in active], return_score=True)
            for item, documents in zip(active, found):
                item.documents |= {d["id"]: d for d in documents if d["id"] not in item.documents}
            prompts = [self.prompt(item) for item in active]
            thoughts = self.generator.generate(prompts, stop=[".", "\\n"])
            for item, prompt, thought in zip(active, prompts, thoughts):
                self.note(item, number, prompt, thought)
                item.query = thought
            active = [item for item in active if MARKER not in item.query]
"""


def install(folder: Path, version: str, *, takes_many: bool, needs: str = "json") -> Path:
    """The folder that `pip install --target` would have made; it imports `needs`."""
    run = "run_batch" if takes_many else "one_by_one"
    pipeline = _PIPELINE.replace("ABSENT", needs).replace("RUN", run, 1)
    files = {
        "flashrag/__init__.py": "",
        "flashrag/dataset/__init__.py": "",
        "flashrag/dataset/dataset.py": _DATASET,
        "flashrag/prompt/__init__.py": "",
        "flashrag/prompt/base_prompt.py": _PROMPT,
        "flashrag/pipeline/__init__.py": pipeline + (_MANY if takes_many else ""),
        f"flashrag_dev-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: flashrag-dev\nVersion: {version}\n"
        ),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
