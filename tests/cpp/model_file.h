// Reads a model file (docs/model-file.md) for the test programs that run without Python. Knows the
// format of files that are sound; checks nothing that Python checks.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"

namespace model_file {

struct Json {
  char kind = 'n';  // n(ull), b(ool), i(nteger), d(ouble), s(tring), a(rray), o(bject)
  double number = 0.0;
  std::string text;
  std::vector<std::pair<std::string, Json>> items;  // names are empty in an array

  const Json* find(const std::string& name) const {
    for (const auto& [key, value] : items)
      if (key == name) return &value;
    return nullptr;
  }
  const Json& operator[](const std::string& name) const {
    if (const Json* found = find(name)) return *found;
    throw std::runtime_error("no " + name);
  }
  int64_t whole() const { return static_cast<int64_t>(number); }
};

class Parser {
 public:
  explicit Parser(const std::string& text) : at_(text.c_str()) {}
  Json value() {
    Json json;
    space();
    if (*at_ == '{' || *at_ == '[') {
      const bool object = *at_ == '{';
      json.kind = object ? 'o' : 'a';
      ++at_;
      for (space(); *at_ != '}' && *at_ != ']'; space()) {
        std::string name;
        if (object) {
          name = string();
          space();
          expect(':');
        }
        json.items.emplace_back(std::move(name), value());
        space();
        if (*at_ == ',') ++at_;
        space();
      }
      ++at_;
    } else if (*at_ == '"') {
      json.kind = 's';
      json.text = string();
    } else if (*at_ == 't' || *at_ == 'f') {
      json.kind = 'b';
      json.number = *at_ == 't' ? 1.0 : 0.0;
      at_ += *at_ == 't' ? 4 : 5;
    } else if (*at_ == 'n') {
      at_ += 4;
    } else {
      char* end = nullptr;
      json.number = std::strtod(at_, &end);
      if (end == at_) throw std::runtime_error("not JSON");
      json.kind =
          std::string(at_, static_cast<const char*>(end)).find_first_of(".eE") == std::string::npos
              ? 'i'
              : 'd';
      at_ = end;
    }
    return json;
  }

 private:
  void space() {
    while (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r') ++at_;
  }
  void expect(char c) {
    if (*at_ != c) throw std::runtime_error("not JSON");
    ++at_;
  }
  // Characters beyond ASCII in vocabularies are not needed: their escapes stay as they are.
  std::string string() {
    std::string text;
    expect('"');
    for (; *at_ != '"'; ++at_) {
      if (*at_ == '\0') throw std::runtime_error("not JSON");
      if (*at_ == '\\') {
        ++at_;
        text += *at_ == 'n' ? '\n' : *at_ == 't' ? '\t' : *at_;
      } else {
        text += *at_;
      }
    }
    ++at_;
    return text;
  }

  const char* at_;
};

inline s2s::ValueType type_of(const Json& json) {
  using s2s::Kind;
  const std::string& kind = json["kind"].text;
  const Kind found = kind == "id"         ? Kind::id
                     : kind == "ids"      ? Kind::ids
                     : kind == "vector"   ? Kind::vector
                     : kind == "sequence" ? Kind::sequence
                                          : Kind::alignment;
  return {found, json["size"].whole()};
}

inline s2s::GraphSpec graph_of(const Json& json) {
  s2s::GraphSpec graph;
  for (const auto& [name, input] : json["inputs"].items)
    graph.inputs.push_back({name, type_of(input)});
  if (const Json* states = json.find("states"))
    for (const auto& [name, state] : states->items)
      graph.states.emplace_back(
          name, s2s::StateSpec{type_of(state), state["initial"].text, state["next"].text});
  for (const auto& [unnamed, item] : json["nodes"].items) {
    s2s::NodeSpec node;
    node.name = item["name"].text;
    node.op = item["op"].text;
    for (const auto& [role, references] : item["inputs"].items) {
      auto& list = node.inputs[role];
      if (references.kind == 's') list.push_back(references.text);
      for (const auto& [none, reference] : references.items) list.push_back(reference.text);
    }
    for (const auto& [role, tensor] : item["weights"].items) node.weights[role] = tensor.text;
    for (const auto& [name, value] : item["attributes"].items) {
      if (value.kind == 'b') node.attributes[name] = value.number != 0.0;
      if (value.kind == 'i') node.attributes[name] = value.whole();
      if (value.kind == 'd') node.attributes[name] = value.number;
      if (value.kind == 's') node.attributes[name] = value.text;
    }
    if (const Json* body = item.find("body"))
      node.body = std::make_shared<s2s::GraphSpec>(graph_of(*body));
    graph.nodes.push_back(std::move(node));
  }
  for (const auto& [name, reference] : json["outputs"].items)
    graph.outputs.emplace_back(name, reference.text);
  return graph;
}

struct File {
  s2s::ModelSpec spec;
  int32_t start = -1;
  std::vector<int32_t> end;
  std::vector<std::vector<float>> tensors;  // what `spec` refers to
};

// Every matrix asks for products in `type`.
inline File read(const std::string& path, s2s::ComputeType type) {
  std::ifstream stream(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  uint64_t size = 0;
  if (bytes.size() < sizeof size) throw std::runtime_error("cannot read " + path);
  std::memcpy(&size, bytes.data(), sizeof size);
  const Json header = Parser(bytes.substr(sizeof size, size)).value();
  const Json document = Parser(header["__metadata__"]["s2s_engine"].text).value();
  File file;
  const Json& graphs = document["graphs"];
  if (const Json* graph = graphs.find("encoder"); graph != nullptr && graph->kind == 'o')
    file.spec.encoder = graph_of(*graph);
  if (const Json* graph = graphs.find("decoder"); graph != nullptr && graph->kind == 'o')
    file.spec.decoder = graph_of(*graph);
  if (document["target"]["start"].kind == 'i')
    file.start = static_cast<int32_t>(document["target"]["start"].whole());
  for (const auto& [none, id] : document["target"]["end"].items)
    file.end.push_back(static_cast<int32_t>(id.whole()));
  file.tensors.reserve(header.items.size());
  for (const auto& [name, entry] : header.items) {
    if (name == "__metadata__") continue;
    s2s::Tensor tensor;
    std::size_t count = 1;
    for (const auto& [none, extent] : entry["shape"].items) {
      tensor.shape.push_back(extent.whole());
      count *= static_cast<std::size_t>(extent.whole());
    }
    const char* from = bytes.data() + sizeof size + size +
                       static_cast<std::size_t>(entry["data_offsets"].items[0].second.whole());
    std::vector<float> values(count);
    if (entry["dtype"].text == "BF16") {
      for (std::size_t i = 0; i < count; ++i) {
        uint16_t word = 0;
        std::memcpy(&word, from + 2 * i, sizeof word);
        values[i] = std::bit_cast<float>(uint32_t{word} << 16);
      }
    } else {
      std::memcpy(values.data(), from, 4 * count);
    }
    file.tensors.push_back(std::move(values));
    tensor.data = file.tensors.back().data();
    if (tensor.shape.size() == 2) tensor.type = type;
    file.spec.tensors[name] = tensor;
  }
  return file;
}

}  // namespace model_file
