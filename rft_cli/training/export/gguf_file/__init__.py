"""A model as one GGUF file: for llama.cpp, Ollama and what builds on them."""
