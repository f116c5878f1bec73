"""Names of columns, and what they tell of a column's role."""

from __future__ import annotations

import re

#: Names that columns of a role often have, the likeliest first.
NAMES = {
    "messages": ("messages", "conversations", "conversation", "chat", "turns", "dialogue", "dialog", "contents"),
    "tools": ("tools", "functions", "tool_definitions", "available_tools"),
    "text": (
        "text",
        "message",
        "instruction",
        "prompt",
        "question",
        "query",
        "input",
        "sentence",
        "utterance",
        "body",
        "content",
        "document",
        "anchor",
        "review",
        "comment",
        "comment_text",
        "premise",
        "sentence1",
        "description",
        "article",
        "transcript",
        *("texto", "texte", "testo", "tekst", "nachricht", "frage", "pregunta", "domanda", "pergunta", "pytanie", "mensaje", "mensagem"),
        *("текст", "сообщение", "вопрос", "文本", "问题", "問題", "内容", "本文", "質問", "テキスト", "텍스트", "질문", "النص", "السؤال"),
    ),
    "more_text": (),
    "label": (
        *("label", "labels", "category", "intent", "class", "topic", "target", "tag", "tags", "sentiment"),
        *("kategorie", "klasse", "etikett", "catégorie", "categorie", "étiquette", "categoría", "categoria", "etiqueta", "etichetta"),
        *("kategoria", "etykieta", "категория", "метка", "标签", "類別", "类别", "分类", "ラベル", "カテゴリ", "라벨", "التصنيف"),
    ),
    "more_labels": (),
    "answer": (
        *("answer", "response", "output", "completion", "reply", "summary", "chosen", "highlights"),
        *("antwort", "réponse", "respuesta", "resposta", "risposta", "odpowiedź", "ответ", "回答", "答案", "답변", "الجواب"),
    ),
    "relevant": ("document", "passage", "positive", "page", "relevant", "doc", "doc_id", "docid", "document_id", "corpus_id"),
    "subject": ("subject", "customer", "customer_id", "user", "user_id", "author", "person", "email", "account", "patient", "who"),
    "split": ("split",),
    "id": ("id", "_id", "query_id", "doc_id", "docid"),
    "title": ("title", "headline", "subject"),
    "license": ("license", "licence"),
    "consent": ("consent", "consent_basis"),
    "collected": ("collected", "collected_at", "created", "created_at", "date"),
    "retain_until": ("retain_until", "retention", "delete_after"),
}
#: What a column of queries is called: the documents beside it are those that answer them.
QUERIES = ("query", "question", "search", "anchor")

#: Columns that tell what is tested, unless they hold something else.
DIVISIONS = ("split", "data_split", "dataset_split", "fold", "is_test", "is_train", "is_valid", "is_validation", "is_dev")
#: Columns whose words for splits are taken for such; those of others are where they are the usual ones.
SPLIT_COLUMNS = ("split", "data_split", "dataset_split", "set", "subset", "partition", "fold")
USUAL_SPLITS = frozenset({"train", "dev", "val", "valid", "validation", "test"})
#: Columns that tell about a row and are nothing to learn, unless somebody says so.
ABOUT = ("source", "origin", "dataset", "lang", "language", "locale", "channel", "version", "model", "url", "file", "filename", *DIVISIONS)
#: Columns of what is not to be answered.
AGAINST = ("negative", "negatives", "hard_negative", "neg", "rejected", "wrong", "distractor")
#: Columns that say whose turn a row is.
SPEAKING = ("role", "speaker", "sender", "from", "author", "participant")
#: People are named in so many characters on average; a column ``subject`` whose texts are longer holds what a mail is about.
LONGEST_PERSON = 32
#: Names alone, without numbers and addresses, in so many: of a longer column ``subject`` it is the line above a mail.
LONGEST_NAME = 18


#: What a column of instructions is called: the response beside it is what is learned.
INSTRUCTIONS = ("instruction", "prompt")
#: Names of two texts of which neither is told about alone; the first of each is what the other is beside.
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("instruction", "input"),
    ("instruction", "context"),
    ("question", "context"),
    ("question", "passage"),
    ("claim", "evidence"),
)
#: Names of texts beside which a longer column may be the one that is meant.
WEAK_TEXTS = ("content", "document", "comment", "description", "article", "transcript")
#: Words in names of what is told about a text: of several columns with few values one that is called so is the label.
LABEL_WORDS = frozenset(
    {"answer", "stars", "rating", "polarity", "overall", "score", "grade", "emotion", "stance", "severity"}
    | {"priority", "queue", "department"}
)
#: Words in names of what people write; and of what is written about it or after it, or what it is written about.
TEXT_WORDS = frozenset({"text", "body", "message", "content", "comment", "review", "mail", "email", "msg"})
OTHER_WORDS = frozenset(
    {"answer", "response", "reply", "resolution", "solution", "output", "translation", "summary", "note", "notes", "log", "history"}
    | {"reason", "rationale", "explanation", "internal", "html", "url", "parent", "previous", "original", "context", "quoted", "reference"}
)


def plain_name(name: str) -> str:
    """A column's name as names are compared."""
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


def words_of(name: str) -> frozenset[str]:
    """The words in a column's name, also in one like ``reviewText``."""
    return frozenset(re.split(r"[\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()))
