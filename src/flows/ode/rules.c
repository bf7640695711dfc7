/* The tableaux of the solvers.

   Dormand & Prince 1980, 5(4); Bogacki & Shampine 1989, 3(2); Kutta 1901. e are the weights minus those of the embedded
   method. The tests confirm the orders. */
#include "flows/ode/rules.h"

#define R(p, q) NF_R((p) / (double)(q))

const nfi_rule nfi_rules[] = {
    [NF_DOPRI5] = {.stages = 6,
                   .adaptive = true,
                   .order = 5,
                   .a = {{0},
                         {R(1, 5)},
                         {R(3, 40), R(9, 40)},
                         {R(44, 45), R(-56, 15), R(32, 9)},
                         {R(19372, 6561), R(-25360, 2187), R(64448, 6561), R(-212, 729)},
                         {R(9017, 3168), R(-355, 33), R(46732, 5247), R(49, 176), R(-5103, 18656)}},
                   .b = {R(35, 384), 0, R(500, 1113), R(125, 192), R(-2187, 6784), R(11, 84)},
                   .c = {0, R(1, 5), R(3, 10), R(4, 5), R(8, 9), 1},
                   .e = {R(71, 57600), 0, R(-71, 16695), R(71, 1920), R(-17253, 339200), R(22, 525), R(-1, 40)}},
    [NF_BOSH3] = {.stages = 3,
                  .adaptive = true,
                  .order = 3,
                  .a = {{0}, {R(1, 2)}, {0, R(3, 4)}},
                  .b = {R(2, 9), R(1, 3), R(4, 9)},
                  .c = {0, R(1, 2), R(3, 4)},
                  .e = {R(-5, 72), R(1, 12), R(1, 9), R(-1, 8)}},
    [NF_RK4] = {.stages = 4,
                .a = {{0}, {R(1, 2)}, {0, R(1, 2)}, {0, 0, 1}},
                .b = {R(1, 6), R(1, 3), R(1, 3), R(1, 6)},
                .c = {0, R(1, 2), R(1, 2), 1}},
};
