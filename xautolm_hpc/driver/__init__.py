"""The generation loop and what only it needs; the only folder that knows every step."""
