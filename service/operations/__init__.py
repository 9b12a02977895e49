"""The use cases, and the only writers: `verb_noun(uow, actor, *, ...)`."""
