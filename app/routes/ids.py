"""An id in a path: everything up to the rest of the route, slashes and line breaks included."""

from starlette.convertors import Convertor, register_url_convertor


class AnyId(Convertor[str]):
    # Starlette's own `path` stops at a line break, and its `$` lets one more stand at the end: "u\n" would be "u".
    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


ANY_ID = "id"
register_url_convertor(ANY_ID, AnyId())
