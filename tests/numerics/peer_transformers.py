"""The Python side of test_peer_transformers.sh: peer_transformers.py PROGRAMS WORK SOURCE"""
import glob
import json
import os
import random
import subprocess
import sys
import unicodedata

import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

programs, work, source = sys.argv[1:]
data = os.path.join(source, "..", "shared", "data")
failed = 0
os.chdir(work)
torch.manual_seed(3)
random.seed(3)


def check(text, good, detail=""):
    global failed
    failed += not good
    print(("ok      " if good else "FAILED  ") + text + ("" if good else f": {detail}"), flush=True)


def run(program, *arguments, input=None):
    done = subprocess.run([os.path.join(programs, program), *arguments], capture_output=True, text=True, input=input)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)}: {done.returncode}\n{done.stderr}")
    return done.stdout


# ---- models ----

SIZES = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=64, bos_token_id=None, eos_token_id=None, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
V5 = int(transformers.__version__.split(".")[0]) >= 5


def rope(theta, **kind):
    if V5:
        return dict(rope_parameters=dict(kind or dict(rope_type="default"), rope_theta=theta))
    return dict(rope_theta=theta, rope_scaling=kind or None)


def gpt2(**more):
    return transformers.GPT2Config(vocab_size=96, n_embd=32, n_head=4, n_layer=2, n_positions=64, bos_token_id=None,
                                   eos_token_id=None, **more)


def llama(**more):
    return transformers.LlamaConfig(**{**SIZES, "num_key_value_heads": 2, **more})


MODELS = {  # name: config, dtype, most bytes a file
    "gpt2": (gpt2(), torch.float32, "5GB"),
    "gpt2_untied": (gpt2(tie_word_embeddings=False, activation_function="gelu"), torch.bfloat16, "5GB"),
    "llama": (llama(**rope(10000.0)), torch.float32, "30KB"),
    "llama3": (llama(tie_word_embeddings=True, **rope(500.0, **LLAMA3)), torch.bfloat16, "5GB"),
    "llama_linear": (llama(**rope(100.0, rope_type="linear", factor=3.0)), torch.float16, "5GB"),
    "llama_biases": (llama(attention_bias=True, mlp_bias=True, **rope(10000.0)), torch.float32, "5GB"),
    "llama_head": (llama(head_dim=16, **rope(10000.0)), torch.float32, "5GB"),
    "mistral": (transformers.MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=None, **rope(10000.0)), torch.bfloat16, "20KB"),
    "qwen2": (transformers.Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=True, **rope(1000.0)), torch.bfloat16, "5GB"),
}


def logits_of(folder, ids):
    """[tokens, V] of transformers, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def ours(folder, ids):
    out = run("gptdist-eval", "--task", "logits", "--checkpoint", folder, "--token-ids", " ".join(map(str, ids)), "--dtype",
              "float32", "--json", "--threads", "1")
    return torch.tensor([json.loads(line)["logits"] for line in out.split("\n")[:-1]])


def tensors_of(folder):
    """name -> (dtype, shape, bytes)"""
    out = {}
    for path in glob.glob(folder + "/*.safetensors"):
        file = open(path, "rb").read()
        length = int.from_bytes(file[:8], "little")
        for name, entry in json.loads(file[8:8 + length]).items():
            if name != "__metadata__":
                first, end = entry["data_offsets"]
                out[name] = (entry["dtype"], tuple(entry["shape"]), file[8 + length + first:8 + length + end])
    return out


def check_model(name, config, dtype, size):
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # other values than those that all begin with
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.to(dtype).save_pretrained(name, max_shard_size=size)
    ids = [random.randrange(96) for _ in range(48)]
    wanted = logits_of(name, ids)
    scale = wanted.abs().max().item()

    def near(what, found):
        off = (found - wanted).abs().max().item()
        check(f"{name}: {what}: within {off:.1e} of {scale:.1f}", off <= 1e-5 * max(scale, 1), "more than 1e-5")

    near("their folder read here", ours(name, ids))
    run("gptdist-ckpt", "import-hf", name, name + "-in", "--no-tokenizer")
    near("the checkpoint that came in", ours(name + "-in", ids))
    run("gptdist-ckpt", "export-hf", name + "-in", name + "-out", "--max-shard-size", size)
    near("our folder read there", logits_of(name + "-out", ids))
    a, b = tensors_of(name), tensors_of(name + "-out")
    check(f"{name}: the bytes of {len(a)} tensors", a == b, sorted(set(a) ^ set(b)) or [n for n in a if a[n] != b[n]])


# ---- classifiers ----

def classes_of(folder, ids):
    model = AutoModelForSequenceClassification.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def check_classifier(name, config, dtype):
    """There is no program of ours yet that prints the outputs for one text: in, out, and the same model again."""
    model = AutoModelForSequenceClassification.from_config(config)
    model.to(dtype).save_pretrained(name)
    run("gptdist-ckpt", "import-hf", name, name + "-in", "--no-tokenizer")
    run("gptdist-ckpt", "export-hf", name + "-in", name + "-out")
    a, b = tensors_of(name), tensors_of(name + "-out")
    check(f"{name}: the bytes of {len(a)} tensors", a == b, sorted(set(a) ^ set(b)) or [n for n in a if a[n] != b[n]])
    ids = [random.randrange(96) for _ in range(30)]
    check(f"{name}: the same outputs", torch.equal(classes_of(name, ids), classes_of(name + "-out", ids)))
    first, again = (transformers.AutoConfig.from_pretrained(folder) for folder in (name, name + "-out"))
    same = (first.id2label, first.label2id) == (again.id2label, again.label2id)
    check(f"{name}: labels", same, again.id2label)
    check(f"{name}: problem_type", again.problem_type == (first.problem_type or "single_label_classification"), again.problem_type)


def check_trained_classifier():
    """The validation loss that training printed is that of the exported model on the same texts."""
    words = ["win cash now call free prize", "see you at home then", "are we late again for tea"]
    rows = [(label, " ".join(random.sample(words[label].split(), 4))) for _ in range(20) for label in range(3)]
    for file, part in (("train.tsv", rows[:30]), ("valid.tsv", rows[30:])):
        with open(file, "w") as out:
            out.writelines(f"{'abc'[label]}\t{text}\n" for label, text in part)
    run("gptdist-data", "prepare", "--task", "classification", "--columns", "label=1,text=2", "--validation", "valid.tsv", "--tokenizer",
        "bytes", "--output", "labelled", "train.tsv")
    with open("classes.yaml", "w") as file:
        file.write("run: {directory: run-classes, steps: 3, device: cpu, threads: 1}\ndata: {path: labelled}\n"
                   "model: {layers: 2, heads: 2, width: 16, context: 64, init_std: 0.3}\nbatch: {global: 4}\n"
                   "validation: {interval_steps: 3, batches: 0}\nlog: {tensorboard: false}\n")
    run("gptdist-train", "--config", "classes.yaml")
    run("gptdist-ckpt", "export-hf", "run-classes", "out-classes")
    lines = [json.loads(line) for line in open("run-classes/metrics.jsonl")]
    printed = [line["loss"] for line in lines if line["event"] == "validation"][-1]
    theirs = AutoTokenizer.from_pretrained("out-classes")
    texts_seen = dict.fromkeys(rows[30:])
    losses = [torch.nn.functional.cross_entropy(classes_of("out-classes", theirs(text)["input_ids"]), torch.tensor(label)).item()
              for label, text in rows[30:]]
    mean = sum(losses) / len(losses)
    check(f"a classifier trained here: validation loss {printed:.6f}, there {mean:.6f}, of {len(texts_seen)} texts", abs(mean - printed) < 1e-5)
    model = AutoModelForSequenceClassification.from_pretrained("out-classes")
    check("its labels", model.config.id2label == {0: "a", 1: "b", 2: "c"}, model.config.id2label)


CLASSES = dict(id2label={0: "ham", 1: "spam", 2: "what"}, label2id={"ham": 0, "spam": 1, "what": 2})
CLASSIFIERS = {
    "gpt2_classes": (gpt2(**CLASSES, pad_token_id=0), torch.float32),
    "llama_classes": (llama(**{**CLASSES, "pad_token_id": 0}, problem_type="multi_label_classification", **rope(10000.0)), torch.bfloat16),
    "qwen2_classes": (transformers.Qwen2Config(**{**SIZES, "pad_token_id": 0}, num_key_value_heads=2, num_labels=2, **rope(1000.0)), torch.float16),
}


# ---- tokenizers ----

GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
                r"\s+(?!\S)|\s+")
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def steps(*parts):
    return pre_tokenizers.Sequence([*parts, LEVEL])


PRE_TOKENIZERS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "gpt2_written": steps(split(GPT2_SPLIT)),
    "llama3": steps(split(LLAMA3_SPLIT)),
    "qwen2": steps(split(QWEN2_SPLIT)),
    "smollm2": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]),
    "removed": steps(split(LLAMA3_SPLIT, "removed", True)),
    "several": steps(split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?[!-/:-~。，、]+"), split(r"\s+$"),
                     pre_tokenizers.Digits(individual_digits=False)),
    "previous": steps(split(r"\s", "merged_with_previous")),
    "next": steps(split(r"\s", "merged_with_next")),
    "contiguous": steps(split(r"\p{N}|\s", "contiguous")),
    "string": pre_tokenizers.Sequence([pre_tokenizers.Split(".(", "isolated"), LEVEL]),
    "empty_matches": steps(split(r"(?=\d)|x*")),
}
SPECIALS = ["<unk>", "<s>", "</s>", "<|im_end|>", "<|im|>"]
ADDED = [AddedToken("<keep>", special=False, normalized=False), AddedToken("<left>", lstrip=True, special=True, normalized=False),
         AddedToken("<right>", rstrip=True, special=True, normalized=False)]


def texts():
    out = ["", " ", "a", "it's  we'LL\n\n x", "12345 1", "café naïve \u212b", "a\u0300\u0301 한국어 \u1112\u1161\u11ab", "x\u180ey \x85z",
           "a <left> b <right>  c<keep>d <|im_end|><|im|><|im_en", "<s>a</s> b", " <keep> ", "Foo.(bar).(", "漢字 と かな 😀👩‍👩‍👧", "  lead", "tail  "]
    path = os.path.join(data, "tokenizer", "vectors_gpt2.jsonl")
    if os.path.exists(path):
        out += [json.loads(line)["text"] for line in open(path, encoding="utf-8")]
    letters = "abcXYZ'stdmrvel012٣½éß漢字😀_-.,{}\"\\ \t\n\r\u00a0\u3000\u0301\u212b가"
    out += ["".join(random.choice(letters) for _ in range(random.randrange(40))) for _ in range(300)]
    return out


CORPUS = [open(path, encoding="utf-8").read() for path in sorted(glob.glob(source + "/*.md") + glob.glob(source + "/docs/*.md"))]
CORPUS += ["naïve café 漢字 😀 it's 한국어 12345 67 890\n" * 20]


def train(pre_tokenizer, normalizer=None, alphabet=None):
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizer
    if normalizer:
        made.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIALS if alphabet else [], show_progress=False,
                                  initial_alphabet=alphabet or [])
    made.train_from_iterator(CORPUS, trainer)
    return made


def byte_level(name):
    made = train(PRE_TOKENIZERS[name], normalizers.NFC() if name == "qwen2" else None, pre_tokenizers.ByteLevel.alphabet())
    made.decoder = decoders.ByteLevel()
    made.add_tokens(ADDED)
    if name == "llama3":
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))])
        state = json.loads(made.to_str())
        state["model"]["ignore_merges"] = True
        made = tokenizers.Tokenizer.from_str(json.dumps(state))
    return made


def fallback(scheme, apart):
    """Llama 2 ("legacy") or Metaspace."""
    mark = "\u2581"
    words = train(pre_tokenizers.Metaspace(prepend_scheme="always"))
    state = json.loads(words.to_str())["model"]
    vocabulary = {text: i for i, text in enumerate(["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])}
    for text in state["vocab"]:
        vocabulary.setdefault(text, len(vocabulary))
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in state["merges"]]
    made = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if scheme == "legacy":
        made.normalizer = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
        made.decoder = decoders.Sequence([decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=apart)
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    made.add_tokens(ADDED)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


def compare_ids(name, folder, theirs, lines):
    out = run("gptdist-data", "encode", "--jsonl", "--allow-special", "--tokenizer", folder,
              input="".join(json.dumps(text) + "\n" for text in lines))
    wrong = []
    for text, line in zip(lines, out.split("\n")[:-1], strict=True):
        found, wanted = json.loads(line), theirs(text, add_special_tokens=False)["input_ids"]
        if found != wanted:
            wrong.append((text[:40], found[:12], wanted[:12]))
    check(f"{name}: ids of {len(lines)} texts", not wrong, wrong[:3])
    return [json.loads(line) for line in out.split("\n")[:-1]]


def check_tokenizer(name, made):
    os.makedirs("tok-" + name)
    made.save(f"tok-{name}/tokenizer.json")
    theirs = PreTrainedTokenizerFast(tokenizer_file=f"tok-{name}/tokenizer.json", clean_up_tokenization_spaces=False)
    lines = texts()
    ids = compare_ids(name, f"hf:tok-{name}/tokenizer.json", theirs, lines)
    plain = [(text, i) for text, i in zip(lines, ids) if "<" not in text and i]
    if name in ("legacy",) or name in PRE_TOKENIZERS:
        out = run("gptdist-data", "decode", "--jsonl", "--tokenizer", f"hf:tok-{name}/tokenizer.json",
                  input="".join(json.dumps(i) + "\n" for _, i in plain))
        wrong = [(text, json.loads(line)) for (text, i), line in zip(plain, out.split("\n")[:-1], strict=True)
                 if json.loads(line) != (unicodedata.normalize("NFC", text) if name == "qwen2" else text)]
        if name not in ("removed",):
            check(f"{name}: {len(plain)} texts come back", not wrong, wrong[:3])


def save_model_folder(name, vocabulary, folder=None):
    config = llama(vocab_size=vocabulary, hidden_size=8, intermediate_size=8, num_attention_heads=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder or name)


def check_export(name, spec):
    """A run of one step on data of a tokenizer of ours, written out, read by AutoTokenizer."""
    with open("some.txt", "w", encoding="utf-8") as file:
        file.write(CORPUS[0])
    run("gptdist-data", "prepare", "--tokenizer", spec, "--output", f"data-{name}", "some.txt")
    with open("run.yaml", "w") as file:
        file.write(f"run: {{directory: run-{name}, steps: 1, device: cpu, threads: 1}}\ndata: {{path: data-{name}}}\n"
                   "model: {layers: 1, heads: 2, width: 8, context: 32}\nbatch: {global: 1}\nlog: {tensorboard: false}\n")
    run("gptdist-train", "--config", "run.yaml")
    run("gptdist-ckpt", "export-hf", f"run-{name}", f"out-{name}")
    theirs = AutoTokenizer.from_pretrained(f"out-{name}")
    lines = texts()
    compare_ids(f"our {name} in AutoTokenizer", f"out-{name}", theirs, lines)
    wrong = [text for text in lines if theirs.decode(theirs(text, add_special_tokens=False)["input_ids"]) != text]
    check(f"our {name} in AutoTokenizer: texts come back", not wrong, wrong[:3])
    model = AutoModelForCausalLM.from_pretrained(f"out-{name}")
    found = model.generation_config.eos_token_id
    check(f"our {name}: what ends a text", found == theirs.eos_token_id and found is not None, (found, theirs.eos_token_id))


def check_marks():
    """Ids that end a turn, as transformers reads them from what went in and out."""
    made = byte_level("llama3")
    made.save("marks.json")
    save_model_folder("marks", made.get_vocab_size() + 7)
    theirs = PreTrainedTokenizerFast(tokenizer_file="marks.json", bos_token="<s>", eos_token="<|im_end|>")
    theirs.save_pretrained("marks")
    ends = [made.token_to_id("</s>"), made.token_to_id("<|im|>")]
    transformers.GenerationConfig(bos_token_id=made.token_to_id("<s>"), eos_token_id=ends).save_pretrained("marks")
    run("gptdist-ckpt", "import-hf", "marks", "marks-in")
    run("gptdist-ckpt", "export-hf", "marks-in", "marks-out")
    found = transformers.GenerationConfig.from_pretrained("marks-out")
    check("what ends a turn went through", sorted(found.eos_token_id) == sorted([*ends, made.token_to_id("<|im_end|>")]), found)
    again = AutoTokenizer.from_pretrained("marks-out")
    check("begin and end of text went through", (again.bos_token, again.eos_token) == ("<s>", "<|im_end|>"), (again.bos_token, again.eos_token))
    lines = texts()
    wanted = [theirs(text)["input_ids"] for text in lines]
    check("ids with begin of text went through", [again(text)["input_ids"] for text in lines] == wanted)


# ---- chat templates ----

TALKS = [
    [("user", "What is 2 + 2?"), ("assistant", "It is 4.")],
    [("system", "Be brief."), ("user", "Name a colour"), ("assistant", "Red")],
    [("system", "You know 漢字 and café."), ("user", "one\n\ntwo  "), ("assistant", "three"), ("user", "it's 12345"), ("assistant", "right, 😀"),
     ("user", "end"), ("assistant", "bye")],
    [("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", "e"), ("assistant", "f")],
    [("user", "x" * 60), ("assistant", "'quoted' \"twice\" \\ {{ y }} {% z %} {# w #}")],
]
TYPED = [("user", "what does <|im_end|> do, and <s>?"), ("assistant", "it ends a turn: <|im_end|></s>"), ("user", "<|eot_id|>"), ("assistant", "no")]
JOINED = [("user", "a line"), ("assistant", "\n  begins with white space")]
CHAT_SPECIALS = ["<|im_start|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def messages_of(talk):
    return [{"role": role, "content": text} for role, text in talk]


def save_chat_tokenizer(folder, begin):
    """A tokenizer with what all templates name; begin: the token before a text, None: none."""
    os.makedirs(folder)
    made = byte_level("gpt2" if begin is None else "qwen2")
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CHAT_SPECIALS])
    made.normalizer = None
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    if begin:
        made.post_processor = processors.TemplateProcessing(single=begin + " $A", special_tokens=[(begin, made.token_to_id(begin))])
    made.save(folder + "/tokenizer.json")


def our_ids(name, config, talks):
    """For each talk what its example has, and how much of that comes before the last response."""
    found = {}
    for step in range(len(talks)):
        for line in run("gptdist-data", "at", "--config", config, "--step", str(step), "--json").split("\n")[:-1]:
            row = json.loads(line)
            ends = row["starts"][1:] + [len(row["tokens"])]
            for document, start, end in zip(row["documents"], row["starts"], ends, strict=True):
                targets, first = row["targets"][start:end], end - start
                while targets[first - 1]:
                    first -= 1
                found[document] = (row["tokens"][start:end], first)
    return [found[i] for i in range(len(talks))]


def check_chat(name, template, spec, *more):
    """A run on talks, written out: apply_chat_template makes the ids of ours; the folder's template is known again."""
    talks = [*TALKS, TYPED, JOINED]
    with open("talks.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"messages": messages_of(talk)}) + "\n" for talk in talks)
    run("gptdist-data", "prepare", "--task", "sft", "--template", template, "--columns", "messages=messages", "--tokenizer",
        spec, "--output", f"data-{name}", *more, "talks.jsonl")
    with open("run.yaml", "w") as file:
        file.write(f"run: {{directory: run-{name}, steps: 1, device: cpu, threads: 1}}\ndata: {{path: data-{name}}}\n"
                   "model: {layers: 1, heads: 2, width: 8, context: 512}\nbatch: {global: 1}\nfinetune: {pack: false}\nlog: {tensorboard: false}\n")
    run("gptdist-train", "--config", "run.yaml")
    run("gptdist-ckpt", "export-hf", f"run-{name}", f"out-{name}")
    theirs, ours_of = AutoTokenizer.from_pretrained(f"out-{name}"), our_ids(name, "run.yaml", talks)

    def ids(talk, prompt, **more):
        return theirs.apply_chat_template(messages_of(talk), add_generation_prompt=prompt, return_dict=False, **more)

    plain = list(zip(TALKS, ours_of))
    wrong = [talk for talk, (wanted, _) in plain if ids(talk, False) != wanted]
    check(f"chat {name}: ids of {len(plain)} talks", not wrong, wrong[:1])
    wrong = [talk for talk, (wanted, first) in plain if ids(talk[:-1], True) != wanted[:first]]
    check(f"chat {name}: ids of their prompts", not wrong, wrong[:1])
    typed, joined = ours_of[len(TALKS):]
    check(f"chat {name}: typed marks become tokens there", ids(TYPED, False) != typed[0])
    if "sanitize_control_tokens" in theirs.apply_chat_template.__code__.co_varnames:
        check(f"chat {name}: and with sanitize_control_tokens are text, as here", ids(TYPED, False, sanitize_control_tokens=True) == typed[0])
    check(f"chat {name}: a response that begins with white space: its prompt is the same", ids(JOINED[:-1], True) == joined[0][:joined[1]])
    lines = run("gptdist-generate", "--checkpoint", f"out-{name}", "--jsonl", "-", "--max-new-tokens", "1", "--threads", "1",
                input="".join(json.dumps({"messages": messages_of(talk[:-1])}) + "\n" for talk in talks)).split("\n")[:-1]
    found = [json.loads(line)["prompt_tokens"] for line in lines]
    check(f"chat {name}: prompts of the folder without --template", found == [first for _, first in ours_of], found)
    ends = transformers.GenerationConfig.from_pretrained(f"out-{name}").eos_token_id
    last = ours_of[0][0][-1]
    check(f"chat {name}: the end token ends a text there", last in (ends if isinstance(ends, list) else [ends]), (last, ends))
    again = run("gptdist-ckpt", "import-hf", f"out-{name}", f"in-{name}", "--json")
    check(f"chat {name}: known again", json.loads(again)["template"] == template, again)
    theirs.save_pretrained(f"saved-{name}")  # where transformers keeps it
    for file in glob.glob(f"out-{name}/*.safetensors") + [f"out-{name}/config.json"]:
        os.link(file, f"saved-{name}/" + os.path.basename(file))
    again = run("gptdist-ckpt", "import-hf", f"saved-{name}", f"back-{name}", "--json")
    check(f"chat {name}: known again as transformers saved it", json.loads(again)["template"] == template, again)


OTHERS = {  # as others write them, for tokenizers that begin a text with what they have
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] "
              "+ '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + "
              "content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
              "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
}


def check_others():
    """What is known as one of ours makes its prompts, but for white space at the ends of a turn that Llama 3's drops."""
    for name, text in OTHERS.items():
        theirs = AutoTokenizer.from_pretrained(f"out-{name}")
        ours = theirs.chat_template
        theirs.chat_template = text
        theirs.save_pretrained(f"other-{name}")
        for file in glob.glob(f"out-{name}/*.safetensors") + [f"out-{name}/config.json"]:
            os.link(file, f"other-{name}/" + os.path.basename(file))
        again = run("gptdist-ckpt", "import-hf", f"other-{name}", f"other-{name}-in", "--json")
        check(f"chat {name}: that of others is known", json.loads(again)["template"] == name, again)
        for talk in TALKS:
            messages = [{**message, "content": message["content"].strip()} for message in messages_of(talk[:-1])]
            found, wanted = (theirs.apply_chat_template(messages, chat_template=chat, add_generation_prompt=True, return_dict=False)
                             for chat in (text, ours))
            check(f"chat {name}: its prompt of {len(messages)} turns is ours", found == wanted, (found, wanted))


def check_grown():
    """Tokens that transformers adds to a folder's tokenizer: data of it train from the folder's weights, which grow."""
    theirs = AutoTokenizer.from_pretrained("out-own")
    theirs.save_pretrained("grown-before")
    for file in glob.glob("out-own/*.safetensors") + ["out-own/config.json"]:
        os.link(file, "grown-before/" + os.path.basename(file))
    theirs.add_tokens([AddedToken(text, special=True, normalized=False) for text in CHAT_SPECIALS])
    theirs.save_pretrained("grown-after")
    run("gptdist-data", "prepare", "--task", "sft", "--template", "llama3", "--columns", "messages=messages", "--tokenizer", "grown-after",
        "--max-tokens", "32", "--output", "data-grown", "talks.jsonl")
    with open("run.yaml", "w") as file:
        file.write("run: {directory: run-grown, steps: 1, device: cpu, threads: 1}\ndata: {path: data-grown}\n"
                   "model: {init_from: grown-before}\nbatch: {global: 1}\nfinetune: {pack: false}\nlog: {tensorboard: false}\n")
    run("gptdist-train", "--config", "run.yaml")
    run("gptdist-ckpt", "export-hf", "run-grown", "out-grown")
    before, after = (tensors_of(folder)["transformer.wte.weight"] for folder in ("grown-before", "out-grown"))
    check("tokens that transformers added: the table grows", after[1][0] - before[1][0] == len(CHAT_SPECIALS), (before[1], after[1]))
    again = AutoTokenizer.from_pretrained("out-grown")
    check("the same ids", all(again(text)["input_ids"] == theirs(text)["input_ids"] for text in [*texts(), *CHAT_SPECIALS]))


print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, torch {torch.__version__}")
for name, settings in MODELS.items():
    check_model(name, *settings)
for name, settings in CLASSIFIERS.items():
    check_classifier(name, *settings)
check_trained_classifier()
for name in PRE_TOKENIZERS:
    check_tokenizer(name, byte_level(name))
for name, scheme, apart in [("legacy", "legacy", False), ("mistral", "first", False), ("always", "always", False),
                            ("apart", "always", True), ("never", "never", True)]:
    check_tokenizer(name, fallback(scheme, apart))
check_export("bytes", "bytes")
run("gptdist-data", "train-tokenizer", "--vocab-size", "700", "--output", "own", os.path.join(source, "README.md"))
check_export("own", "gpt2:own")
if os.path.exists(data):
    check_export("gpt2", "gpt2:" + data + "/tokenizer/gpt2")
    check_export("cl100k", "tiktoken:" + data + "/tokenizer/cl100k_base.tiktoken.gz")
check_marks()
save_chat_tokenizer("chat", None)
save_chat_tokenizer("begun", "<s>")
save_chat_tokenizer("begun3", "<|begin_of_text|>")
for name, template, folder in [("plain", "plain", "chat"), ("alpaca", "alpaca", "begun"), ("chatml", "chatml", "chat"),
                               ("chatml_begun", "chatml", "begun"), ("llama3", "llama3", "begun3"), ("llama3_plain", "llama3", "chat")]:
    check_chat(name, template, f"hf:{folder}/tokenizer.json")
for name, spec in [("bytes_more", "bytes"), ("hf_more", "hf:tok-gpt2/tokenizer.json"), ("own_more", "gpt2:own")]:
    check_chat(name, "llama3", spec, "--add-special", ",".join(CHAT_SPECIALS))
check_others()
check_grown()
print(f"{failed} failed")
sys.exit(failed > 0)
