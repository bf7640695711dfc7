/* BridgeStan's C interface over a model of Stan 2.21, as Debian's r-cran-stanheaders has it. README.md says how the
   models are made. It is compiled once for each model, after its generated code:

       g++ ... -include eight_schools_centered.hpp bridgestan_shim.cpp

   With -DSTAN_THREADS the library may be used by several threads. */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <stan/io/array_var_context.hpp>
#include <stan/model/log_prob_grad.hpp>
#include <stan/version.hpp>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace
{

/* ---- data: a JSON object whose values are numbers or arrays of arrays of numbers ---- */

struct variable {
    std::vector<double> values; /* row-major, as they stand in the text */
    std::vector<size_t> dims;
    bool whole = true; /* all of them are integers */
};

class reader
{
  public:
    explicit reader(const std::string &text) : text_(text)
    {
    }

    /* Calls add(name, variable) for each member. */
    template <typename F> void object(F add)
    {
        expect('{');
        if (peek() == '}') {
            ++at_;
        } else {
            do {
                const std::string name = string();
                expect(':');
                variable v;
                value(v, 0);
                add(name, v);
            } while (next() == ',');
            --at_;
            expect('}');
        }
        if (peek() != '\0')
            fail("the end");
    }

  private:
    const std::string text_;
    size_t at_ = 0;

    [[noreturn]] void fail(const std::string &wanted) const
    {
        throw std::invalid_argument("Error in JSON parsing at character " + std::to_string(at_ + 1) + ": " + wanted +
                                    " was expected");
    }

    char peek()
    {
        while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]))
            ++at_;
        return at_ < text_.size() ? text_[at_] : '\0';
    }

    char next()
    {
        const char c = peek();
        ++at_;
        return c;
    }

    void expect(char c)
    {
        if (peek() != c)
            fail(std::string("'") + c + "'");
        ++at_;
    }

    std::string string()
    {
        expect('"');
        const size_t end = text_.find('"', at_);
        if (end == std::string::npos)
            fail("'\"'");
        const std::string s = text_.substr(at_, end - at_);
        at_ = end + 1;
        return s;
    }

    double number(variable &v)
    {
        if (peek() == '"') {
            const std::string s = string();
            v.whole = false;
            if (s == "NaN")
                return std::numeric_limits<double>::quiet_NaN();
            if (s == "Inf" || s == "Infinity")
                return std::numeric_limits<double>::infinity();
            if (s == "-Inf" || s == "-Infinity")
                return -std::numeric_limits<double>::infinity();
            fail("a number");
        }
        const char *begin = text_.c_str() + at_;
        char *end;
        const double x = std::strtod(begin, &end);
        if (end == begin)
            fail("a number");
        for (const char *c = begin; c < end; ++c)
            v.whole = v.whole && std::strchr(".eE", *c) == nullptr;
        v.whole = v.whole && std::fabs(x) <= 2147483647;
        at_ += static_cast<size_t>(end - begin);
        return x;
    }

    /* A value at some depth of nested arrays. All arrays of a depth have one length. */
    void value(variable &v, size_t depth)
    {
        if (peek() != '[') {
            if (depth != v.dims.size())
                fail("an array");
            v.values.push_back(number(v));
            return;
        }
        ++at_;
        size_t n = 0;
        const bool first = depth == v.dims.size();
        if (first && !v.values.empty())
            fail("a number");
        if (first)
            v.dims.push_back(0);
        if (peek() == ']') {
            ++at_;
        } else {
            do {
                value(v, depth + 1);
                ++n;
            } while (next() == ',');
            --at_;
            expect(']');
        }
        if (!first && v.dims[depth] != 0 && v.dims[depth] != n)
            fail("an array of " + std::to_string(v.dims[depth]) + " elements");
        v.dims[depth] = n;
    }
};

/* Stan wants the first index to run fastest. */
std::vector<double> column_major(const variable &v)
{
    std::vector<double> out(v.values.size());
    for (size_t i = 0; i < v.values.size(); ++i) {
        size_t rest = i, place = 0, stride = v.values.size();
        for (size_t k = v.dims.size(); k-- > 0; rest /= v.dims[k]) {
            stride /= v.dims[k];
            place += rest % v.dims[k] * stride;
        }
        out[place] = v.values[i];
    }
    return out;
}

std::string text_of(const char *data)
{
    const std::string s = data ? data : "";
    if (s.size() < 5 || s.compare(s.size() - 5, 5, ".json") != 0)
        return s.empty() ? "{}" : s;
    std::ifstream file(s);
    if (!file)
        throw std::invalid_argument("could not open data file " + s);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::unique_ptr<stan::io::array_var_context> context_of(const char *data)
{
    std::vector<std::string> names_r, names_i;
    std::vector<double> values_r;
    std::vector<int> values_i;
    std::vector<std::vector<size_t>> dims_r, dims_i;
    reader(text_of(data)).object([&](const std::string &name, const variable &v) {
        const std::vector<double> values = column_major(v);
        if (v.whole) {
            names_i.push_back(name);
            dims_i.push_back(v.dims);
            for (double x : values)
                values_i.push_back(static_cast<int>(x));
        } else {
            names_r.push_back(name);
            dims_r.push_back(v.dims);
            values_r.insert(values_r.end(), values.begin(), values.end());
        }
    });
    return std::unique_ptr<stan::io::array_var_context>(
        new stan::io::array_var_context(names_r, values_r, dims_r, names_i, values_i, dims_i));
}

/* ---- what is printed, and errors ---- */

void (*printer)(const char *text, size_t size);
std::mutex printing;

/* Hands on what a call has printed. */
void hand_on(std::ostringstream &out)
{
    const std::string s = out.str();
    out.str("");
    std::lock_guard<std::mutex> lock(printing);
    if (printer)
        printer(s.data(), s.size());
    else
        std::fwrite(s.data(), 1, s.size(), stdout);
}

void tell(char **error, const std::string &text)
{
    if (error)
        *error = strdup(text.c_str());
}

/* f(stream), whose exceptions become messages. 0, or -1. */
template <typename F> int guarded(char **error, F f)
{
#ifdef STAN_THREADS
    static thread_local stan::math::ChainableStack stack;
#endif
    static thread_local std::ostringstream out;
    int code = -1;
    try {
        f(&out);
        code = 0;
    } catch (const std::exception &e) {
        tell(error, e.what());
    } catch (...) {
        tell(error, "an exception of unknown kind");
    }
    stan::math::recover_memory(); /* the tape, which neither a gradient nor an exception clears everywhere */
    if (out.tellp() > 0)
        hand_on(out);
    return code;
}

std::string joined(const std::vector<std::string> &names)
{
    std::string s;
    for (const std::string &name : names)
        s += (s.empty() ? "" : ",") + name;
    return s;
}

} // namespace

struct bs_model {
    std::unique_ptr<stan::model::model_base> model;
    std::string name, info, names[4], unc_names;
    int n[4];
};
struct bs_rng {
    boost::ecuyer1988 rng;
};

EXPORT const int bs_major_version = 2;
EXPORT const int bs_minor_version = 7;
EXPORT const int bs_patch_version = 0;

EXPORT void bs_free_error_msg(char *error)
{
    std::free(error);
}

EXPORT int bs_set_print_callback(void (*print)(const char *text, size_t size), char **)
{
    std::lock_guard<std::mutex> lock(printing);
    printer = print;
    return 0;
}

EXPORT bs_model *bs_model_construct(const char *data, unsigned seed, char **error)
{
    std::unique_ptr<bs_model> m(new bs_model);
    const int failed = guarded(error, [&](std::ostream *out) {
        const std::unique_ptr<stan::io::array_var_context> context = context_of(data);
        m->model.reset(&new_model(*context, seed, out));
        m->name = m->model->model_name();
        m->info = "Stan version: " + std::to_string(STAN_MAJOR) + "." + std::to_string(STAN_MINOR) + "." +
                  std::to_string(STAN_PATCH) + "\nStan C++ Defines:\n\tSTAN_THREADS=";
#ifdef STAN_THREADS
        m->info += "true\n";
#else
        m->info += "false\n";
#endif
        for (int k = 0; k < 4; ++k) {
            std::vector<std::string> names;
            m->model->constrained_param_names(names, k & 1, k & 2);
            m->names[k] = joined(names);
            m->n[k] = static_cast<int>(names.size());
        }
        std::vector<std::string> names;
        m->model->unconstrained_param_names(names, false, false);
        m->unc_names = joined(names);
    });
    return failed ? nullptr : m.release();
}

EXPORT void bs_model_destruct(bs_model *m)
{
    delete m;
}

EXPORT const char *bs_name(const bs_model *m)
{
    return m->name.c_str();
}

EXPORT const char *bs_model_info(const bs_model *m)
{
    return m->info.c_str();
}

EXPORT const char *bs_param_names(const bs_model *m, bool transformed, bool generated)
{
    return m->names[transformed + 2 * generated].c_str();
}

EXPORT const char *bs_param_unc_names(const bs_model *m)
{
    return m->unc_names.c_str();
}

EXPORT int bs_param_num(const bs_model *m, bool transformed, bool generated)
{
    return m->n[transformed + 2 * generated];
}

EXPORT int bs_param_unc_num(const bs_model *m)
{
    return static_cast<int>(m->model->num_params_r());
}

EXPORT bs_rng *bs_rng_construct(unsigned seed, char **error)
{
    std::unique_ptr<bs_rng> rng(new bs_rng);
    const int failed = guarded(error, [&](std::ostream *) { rng->rng = stan::services::util::create_rng(seed, 0); });
    return failed ? nullptr : rng.release();
}

EXPORT void bs_rng_destruct(bs_rng *rng)
{
    delete rng;
}

EXPORT int bs_param_constrain(const bs_model *m, bool transformed, bool generated, const double *x, double *y,
                              bs_rng *rng, char **error)
{
    return guarded(error, [&](std::ostream *out) {
        if (generated && !rng)
            throw std::invalid_argument("random numbers are needed for generated quantities");
        boost::ecuyer1988 unused;
        Eigen::VectorXd point = Eigen::Map<const Eigen::VectorXd>(x, bs_param_unc_num(m)), values;
        m->model->write_array(rng ? rng->rng : unused, point, values, transformed, generated, out);
        std::copy(values.data(), values.data() + values.size(), y);
    });
}

EXPORT int bs_log_density(const bs_model *m, bool propto, bool jacobian, const double *x, double *log_p, char **error)
{
    return guarded(error, [&](std::ostream *out) {
        Eigen::VectorXd point = Eigen::Map<const Eigen::VectorXd>(x, bs_param_unc_num(m)), grad;
        *log_p = propto && jacobian ? stan::model::log_prob_grad<true, true>(*m->model, point, grad, out)
                 : propto           ? stan::model::log_prob_grad<true, false>(*m->model, point, grad, out)
                 : jacobian         ? m->model->log_prob_jacobian(point, out)
                                    : m->model->log_prob(point, out);
    });
}

EXPORT int bs_log_density_gradient(const bs_model *m, bool propto, bool jacobian, const double *x, double *log_p,
                                   double *grad, char **error)
{
    return guarded(error, [&](std::ostream *out) {
        Eigen::VectorXd point = Eigen::Map<const Eigen::VectorXd>(x, bs_param_unc_num(m)), g;
        const double value = propto && jacobian ? stan::model::log_prob_grad<true, true>(*m->model, point, g, out)
                             : propto           ? stan::model::log_prob_grad<true, false>(*m->model, point, g, out)
                             : jacobian         ? stan::model::log_prob_grad<false, true>(*m->model, point, g, out)
                                                : stan::model::log_prob_grad<false, false>(*m->model, point, g, out);
        *log_p = value;
        std::copy(g.data(), g.data() + g.size(), grad);
    });
}
